"""Peers that mean harm. Whatever they do: the process lives, its memory stays within bounds, and a well-behaved call on
another connection is answered meanwhile. A metric tells the operator what happened: docs/wire.md, "What harm is done about"."""

import gzip
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

import grpc
import pytest
from http2_frames import *
from nodes import PATIENCE, many_descriptors, wait_for

MEMORY_MIB_MAX = 400
SLOW_CALLERS = many_descriptors(2000)
FLOODS_TOTAL = "raftoral_wire_floods_total"
TIMEOUTS = "raftoral_wire_timeouts_total"
PROTOCOL_ERRORS = "raftoral_wire_protocol_errors_total"
CALLS = "raftoral_grpc_server_started_total"
FAILED_CALLS = "raftoral_grpc_server_handled_total!OK"


class Server:
    """grpc-echo-server, and a caller who behaves."""

    def __init__(self, milliseconds=None):
        program = Path(os.environ["RAFTORAL"]).with_name("grpc-echo-server")
        self.is_impatient = milliseconds is not None
        arguments = ["0"] + ([str(milliseconds)] if milliseconds else [])
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.unary = self.channel.unary_unary("/echo.Echo/Unary", lambda m: m, lambda m: m)
        self.counters = self.channel.unary_unary("/echo.Echo/Counters", lambda m: m, lambda m: m)
        self.call()

    def call(self):
        """With time limits of a second, a busy machine may lose the connection of the best caller, who calls again."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert self.unary(b"well-behaved", timeout=PATIENCE, wait_for_ready=True) == b"well-behaved"
                return
            except grpc.RpcError as error:
                if not self.is_impatient or error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise

    def counted(self, *names):
        """The sum of some metrics, over their labels. `name!CODE`: only what ended with another status than CODE."""
        text = self.counters(b"", timeout=PATIENCE, wait_for_ready=True).decode()
        total = 0.0
        for line in text.splitlines():
            series, _, value = line.rpartition(" ")
            for name in names:
                name, _, code = name.partition("!")
                if series.partition("{")[0] == name and not (code and f'code="{code}"' in series):
                    total += float(value)
        return total

    @property
    def memory_mib(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024

    def peer(self, **options):
        return Peer(self.port, PATIENCE, **options)

    def end(self):
        self.channel.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    started = Server()
    yield started
    started.end()


@pytest.fixture(scope="module")
def impatient():
    """With time limits of a second."""
    started = Server(1000)
    yield started
    started.end()


class Meanwhile:
    """Calls by somebody else while the body runs; checks what holds in spite of it."""

    def __init__(self, server, what, *metrics):
        self.server, self.what, self.slowest, self.error, self.over = server, what, 0.0, None, threading.Event()
        self.metrics = metrics
        self.before = server.counted(*metrics)

    def _call(self):
        while True:
            began = time.monotonic()
            try:
                self.server.call()
            except Exception as error:
                self.error = error
                return
            self.slowest = max(self.slowest, time.monotonic() - began)
            if self.over.wait(0.05):
                return

    def __enter__(self):
        self.thread = threading.Thread(target=self._call)
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.over.set()
        self.thread.join()
        if error is not None:
            return
        assert self.error is None
        assert self.server.process.poll() is None, "the process has ended"
        self.server.call()
        if self.metrics:
            wait_for(f"{self.metrics} tell it", lambda: self.server.counted(*self.metrics) > self.before)
        print(f"{self.what}: slowest other call {self.slowest * 1000:.0f} ms, {self.server.memory_mib:.0f} MiB")
        assert self.server.memory_mib < MEMORY_MIB_MAX


def send_until_closed(peer, chunk, count):
    """The server must have had enough before all is sent and read. Reads meanwhile, so that nobody waits for us."""
    codes = []
    reader = threading.Thread(target=lambda: codes.append(peer.read_to_end()))
    reader.start()
    for number in range(count):
        if not peer.send(chunk(number) if callable(chunk) else chunk):
            break
    reader.join(PATIENCE)
    assert not reader.is_alive(), "the server keeps the connection"
    peer.close()
    # The GOAWAY may be lost in the reset.
    assert codes[0] in (None, ENHANCE_YOUR_CALM)


def opened(number, path=b"/echo.Echo/Never", end=True):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), 2 * number + 1, request(path))


def test_rapid_reset(server):  # CVE-2023-44487
    def batch(number):
        return b"".join(
            opened(place) + frame(RST_STREAM, 0, 2 * place + 1, struct.pack(">I", 8))
            for place in range(number * 100, number * 100 + 100)
        )

    with Meanwhile(server, "rapid reset", FLOODS_TOTAL):
        send_until_closed(server.peer(), batch, 300)


def test_streams_that_the_server_has_to_reset(server):  # CVE-2025-8671
    def batch(number):
        return b"".join(
            opened(place, end=False) + frame(WINDOW_UPDATE, 0, 2 * place + 1, b"\x7f\xff\xff\xff")
            for place in range(number * 100, number * 100 + 100)
        )

    with Meanwhile(server, "made to reset", "raftoral_wire_induced_resets_total"):
        send_until_closed(server.peer(), batch, 300)


FLOODS = {
    "SETTINGS": settings((3, 100)),
    "PING": frame(PING, payload=bytes(8)),
    "PRIORITY": frame(PRIORITY, 0, 5, struct.pack(">IB", 1, 7)),
    "RST_STREAM of nothing": frame(RST_STREAM, 0, 1, bytes(4)),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_of_frames_that_bring_nothing(server, kind):
    with Meanwhile(server, kind, FLOODS_TOTAL):
        peer = server.peer()
        peer.send(opened(0))
        send_until_closed(peer, FLOODS[kind] * 100, 1000)


def test_flood_of_empty_data(server):
    with Meanwhile(server, "empty DATA", FLOODS_TOTAL):
        peer = server.peer()
        peer.send(opened(0, end=False))
        send_until_closed(peer, frame(DATA, 0, 1) * 100, 1000)


def test_flood_of_continuations(server):  # CVE-2024-27316
    with Meanwhile(server, "CONTINUATION", FLOODS_TOTAL, "raftoral_wire_header_bombs_total"):
        peer = server.peer()
        peer.send(frame(HEADERS, 0, 1, request()))
        chunk = frame(CONTINUATION, 0, 1, field(b"x", b"y" * 1000) * 10)
        codes = []
        reader = threading.Thread(target=lambda: codes.append(peer.read_to_end()))
        reader.start()
        for _ in range(20_000):
            if not peer.send(chunk):
                break
        reader.join(PATIENCE)
        assert not reader.is_alive()


def test_header_bombs(server):
    """A few bytes that stand for megabytes: one large field in the table, named thousands of times."""
    with Meanwhile(server, "HPACK bomb", "raftoral_wire_header_bombs_total"):
        for _ in range(20):
            peer = server.peer()
            peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, request(more=field(b"bomb", b"b" * 3900, indexed=True))))
            send_until_closed(peer, lambda number: frame(HEADERS, END_HEADERS | END_STREAM, 3 + 2 * number, request(more=b"\xbe" * 15_000)), 50)


# 4 × (not the last, fixed codes, end of block) = 4 × 10 bits, lowest bit first.
EMPTY_FIXED_BLOCKS = sum(0b0000000_01_0 << (10 * place) for place in range(4)).to_bytes(5, "little")


def empty_blocks(count):
    """A gzip member that costs the time to read the codes of its blocks, and gives nothing."""
    # 3 bits of header, then the end of the block by the fixed codes, which is 0000000: 5 bytes make four blocks.
    return gzip.compress(b"")[:10] + EMPTY_FIXED_BLOCKS * count + b"\x03\x00" + bytes(8)


COMPRESSED = {
    # Less than a stream's window: nobody waits for updates here.
    "a bomb of 256 MiB": lambda: zlib_stream(256 << 20),
    "bombs just within the limit": lambda: gzip.compress(bytes(4 << 20)),
    "blocks of nothing": lambda: empty_blocks(180_000),
    "no gzip": lambda: bytes(range(256)) * 100,
}


# They cost time, and are messages all the same.
HARMLESS = ("bombs just within the limit", "blocks of nothing")


def zlib_stream(count):
    """gzip of so many zeros, without ever having them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join(parts) + packer.flush()


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_messages_that_mean_harm(server, kind):
    """Many calls at once, on several connections, each with a message that costs much more than it takes to send."""
    body = message(COMPRESSED[kind](), flag=1)
    more = field(b"grpc-encoding", b"gzip")
    count = max(1, min(25, (4 << 20) // len(body)))

    answered = []

    def attack():
        peer = server.peer(pairs=[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)])
        frames = peer.frames()
        next(frames)
        peer.send(frame(SETTINGS, ACK))  # the stream's window is 1 MiB from here on
        for number in range(count):
            stream = 2 * number + 1
            peer.send(frame(HEADERS, END_HEADERS, stream, request(more=more)))
            parts = [body[start : start + 16_000] for start in range(0, len(body), 16_000)]
            for part in parts[:-1]:
                peer.send(frame(DATA, 0, stream, part))
            peer.send(frame(DATA, END_STREAM, stream, parts[-1]))
        last = 2 * count - 1
        answered.append(next((kind for kind, _, stream, _ in frames if stream == last and kind in (HEADERS, RST_STREAM)), None))
        peer.close()

    told = [CALLS] if kind in HARMLESS else ["raftoral_wire_inflation_bombs_total", FAILED_CALLS]
    with Meanwhile(server, kind, *told):
        attackers = [threading.Thread(target=attack) for _ in range(4)]
        for attacker in attackers:
            attacker.start()
        for attacker in attackers:
            attacker.join(PATIENCE)
    assert answered == [HEADERS] * 4


def status_of(peer, stream=1):
    """The header fields of the first answer as they lie in the block, uncompressed by the eye of `in`."""
    for kind, flags, of, payload in peer.frames():
        if kind == HEADERS and of == stream:
            return payload
        if kind == GOAWAY:
            return None
    return None


def test_header_list_over_the_limit_fails_the_call_only(server):
    with Meanwhile(server, "headers over the limit", "raftoral_wire_requests_refused_total"):
        for _ in range(50):
            peer = server.peer()
            more = b"".join(field(b"x-%d" % place, b"v" * 900) for place in range(20))
            block = request(more=more)
            peer.send(frame(HEADERS, END_STREAM, 1, block[:16000]) + frame(CONTINUATION, END_HEADERS, 1, block[16000:]))
            assert status_of(peer) is not None, "the call is not answered"
            peer.close()


def test_zero_windows(server):
    """Ten callers who ask for much and take nothing."""
    with Meanwhile(server, "zero windows", CALLS):
        peers = []
        for _ in range(10):
            peer = server.peer(pairs=[(INITIAL_WINDOW_SIZE, 0)])
            for number in range(40):
                peer.send(
                    frame(HEADERS, END_HEADERS, 2 * number + 1, request())
                    + frame(DATA, END_STREAM, 2 * number + 1, message(bytes(16_000)))
                )
            peers.append(peer)
        for peer in peers:
            assert status_of(peer) is not None
        for peer in peers:
            peer.close()


def test_zero_windows_are_not_held_for_ever(impatient):
    with Meanwhile(impatient, "a zero window held", "raftoral_wire_stalled_answers_total", TIMEOUTS):
        peer = impatient.peer(pairs=[(INITIAL_WINDOW_SIZE, 0)])
        peer.send(opened(0, path=b"/echo.Echo/Unary", end=False) + frame(DATA, END_STREAM, 1, message(bytes(10_000))))
        for kind, flags, stream, payload in peer.frames():
            if kind == PING and not flags & ACK:
                peer.send(frame(PING, ACK, 0, payload))
            if kind == RST_STREAM and stream == 1:
                break
        # Or the connection was cut, where this peer was too slow to answer a PING. Held for ever, it would time out above.
        peer.close()


def test_callers_that_never_read(server):
    with Meanwhile(server, "never read", CALLS):
        peers = [server.peer(pairs=[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]) for _ in range(10)]
        for peer in peers:
            peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 65536 - 1)))
            peer.socket.setblocking(False)
        answer = b"".join(
            frame(HEADERS, END_HEADERS, 2 * place + 1, request())
            + frame(DATA, END_STREAM, 2 * place + 1, message(bytes(16_000)))
            for place in range(500)
        )
        for peer in peers:
            try:
                peer.socket.send(answer)
            except (BlockingIOError, ConnectionResetError):
                pass
        # The server has filled whatever it would fill.
        wait_for("answers wait", lambda: server.counted("raftoral_wire_outbound_buffered_bytes") > 0)
        for peer in peers:
            peer.close()


STAGES = {
    "nothing": b"",
    "preface": PREFACE[:10],
    "settings": PREFACE + settings()[:5],
    "headers": PREFACE + settings() + frame(HEADERS, END_STREAM, 1, request()[:20]),
    "frame": PREFACE + settings() + opened(0, end=False) + frame(DATA, 0, 1, message(bytes(8000)))[:100],
}


@pytest.mark.parametrize("stage", STAGES)
def test_slow_loris(impatient, stage):
    """Two thousand callers who stop in the middle, and send a byte now and then: all are cut."""
    # On a fast machine the bytes make a wrong frame before the time is up, and nghttp2 takes each byte after an unfinished
    # header block for a CONTINUATION, of which it has enough after eight.
    with Meanwhile(impatient, f"slow loris: {stage}", TIMEOUTS, PROTOCOL_ERRORS, FLOODS_TOTAL):
        peers = [impatient.peer(preface=False) for _ in range(SLOW_CALLERS)]
        for peer in peers:
            peer.send(STAGES[stage])
        waiting, deadline = set(peers), time.monotonic() + PATIENCE
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} connections are still there"
            for peer in list(waiting):
                if stage != "nothing":
                    # What would go on for ever, were every byte taken for progress.
                    peer.send(PREFACE[10:11] if stage == "preface" else b"\0")
                peer.socket.setblocking(False)
                try:
                    while peer.socket.recv(65536):
                        pass
                    waiting.discard(peer)
                except BlockingIOError:
                    pass
                except ConnectionResetError:
                    waiting.discard(peer)
                peer.socket.setblocking(True)
            time.sleep(0.1)
        for peer in peers:
            peer.close()


def with_body(body, **options):
    return frame(HEADERS, END_HEADERS, 1, request(**options)) + frame(DATA, END_STREAM, 1, body)


NONSENSE = {
    "length that lies upwards": with_body(message(b"abc", length=100)),
    "length of 4 GiB": with_body(message(b"abc", length=(1 << 32) - 1)),
    "length that lies downwards": with_body(message(b"abcdef", length=2)),
    "half a prefix": with_body(b"\0\0"),
    "unknown flag": with_body(message(b"abc", flag=9)),
    "compressed without a name": with_body(message(b"abc", flag=1)),
    "compressed by something unknown": with_body(message(b"abc", flag=1), more=field(b"grpc-encoding", b"br")),
    "no message": with_body(b""),
    "garbage protobuf": with_body(message(bytes(range(255, 55, -1))), path=b"/bench.Echo/Unary"),
    "deep nesting": with_body(message(b"\x0a\x7f" * 4000), path=b"/bench.Echo/Unary"),
    "unknown path": with_body(message(b""), path=b"/no/such"),
    "wrong content type": with_body(message(b""), content_type=b"application/json"),
    "no content type": with_body(message(b""), content_type=None),
    "method PUT": with_body(message(b""), method=b"PUT"),
    "method GET": with_body(message(b""), method=b"GET"),
    "malformed timeout": with_body(message(b""), more=field(b"grpc-timeout", b"soon")),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_gets_an_answer(server, kind):
    with Meanwhile(server, kind, "raftoral_wire_requests_refused_total", FAILED_CALLS):
        for _ in range(20):
            peer = server.peer()
            peer.send(NONSENSE[kind])
            assert status_of(peer) is not None
            peer.close()


def test_a_get_gets_a_line_of_text(server):
    peer = server.peer()
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, request(b"/", b"GET", None)))
    text = next(payload for kind, _, stream, payload in peer.frames() if kind == DATA and stream == 1)
    assert text == b"Not found. This server speaks gRPC over HTTP/2.\n"
    peer.close()


STRANGERS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "a frame too large": PREFACE + settings() + b"\xff\xff\xff\0\0\0\0\0\1",
    "data on stream 0": PREFACE + settings() + frame(DATA, 0, 0, b"x"),
    "an even stream": PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 2, request()),
    "HPACK beyond the table": PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\x7f"),
    "a window that overflows": PREFACE + settings() + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
    "a truncated SETTINGS": PREFACE + frame(SETTINGS, payload=b"abc"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_who_speaks_something_else_is_cut(server, kind):
    with Meanwhile(server, kind, PROTOCOL_ERRORS):
        for _ in range(20):
            peer = server.peer(preface=False)
            peer.send(STRANGERS[kind])
            peer.read_to_end()
            peer.close()


def test_random_bytes(server):
    seed = int(os.environ.get("RAFTORAL_SEED", random.randrange(1 << 32)))
    print(f"RAFTORAL_SEED={seed}")
    source = random.Random(seed)
    with Meanwhile(server, "random bytes", PROTOCOL_ERRORS):
        for number in range(300):
            peer = server.peer(preface=number % 2 == 0)
            for _ in range(source.randrange(1, 10)):
                if number % 3 == 0:
                    peer.send(source.randbytes(source.randrange(1, 2000)))
                else:
                    kind, flags, stream = source.randrange(12), source.randrange(256), source.randrange(8)
                    peer.send(frame(kind, flags, stream, source.randbytes(source.randrange(200))))
            peer.close()


def test_connect_and_vanish(server):
    with Meanwhile(server, "connect and vanish", "raftoral_wire_connections_accepted_total"):
        for number in range(2000):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            if number % 2:
                client.send(PREFACE[: number % 24])
            if number % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    wait_for("the connections are forgotten", lambda: len(list(descriptors.iterdir())) < 200)
