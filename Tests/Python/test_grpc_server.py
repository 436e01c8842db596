"""Our gRPC server against the client of grpcio: every kind of call, on the echo service of grpc-echo-server."""

import os
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from nodes import wait_for


def raw(message):
    return message


class EchoClient:
    def __init__(self, port):
        sizes = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=sizes)
        self.unary = self.method("Unary")
        self.stream = self.channel.stream_stream("/echo.Echo/Stream", raw, raw)

    def method(self, name):
        return self.channel.unary_unary(f"/echo.Echo/{name}", raw, raw)


@pytest.fixture(scope="module")
def echo():
    program = Path(os.environ["RAFTORAL"]).with_name("grpc-echo-server")
    server = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    yield EchoClient(int(server.stdout.readline()))
    server.kill()
    server.wait()


def code_of(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code()


@pytest.mark.parametrize("size", [0, 1, 100_000, 4 << 20])
def test_unary(echo, size):
    message = os.urandom(size)
    assert echo.unary(message, timeout=60) == message


def test_streams_of_every_direction(echo):
    messages = [b"a", b"", b"c" * 100_000]
    assert list(echo.stream(iter(messages), timeout=60)) == messages
    assert list(echo.channel.unary_stream("/echo.Echo/Stream", raw, raw)(b"one", timeout=60)) == [b"one"]
    assert echo.channel.stream_unary("/echo.Echo/Stream", raw, raw)(iter([b"x"]), timeout=60) == b"x"


def test_twenty_megabytes_on_one_stream(echo):
    messages = [os.urandom(200_000) for _ in range(100)]
    assert list(echo.stream(iter(messages), timeout=60)) == messages


def test_a_reader_that_is_slow_at_first_gets_everything(echo):
    answers = echo.stream(iter([b"z" * 100_000] * 200), timeout=60)
    first = next(answers)
    time.sleep(0.3)  # the server runs into the windows meanwhile
    assert [first, *answers] == [b"z" * 100_000] * 200


def test_too_long_a_message(echo):
    assert code_of(lambda: echo.unary(bytes((4 << 20) + 1), timeout=60)) == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
def test_statuses(echo, code):
    with pytest.raises(grpc.RpcError) as error:
        echo.method("Fail")(bytes([code.value[0]]), timeout=60)
    assert error.value.code() == code
    assert error.value.details() == "failed as asked: größer als 100%"


def test_an_unknown_method(echo):
    assert code_of(lambda: echo.method("NoSuch")(b"", timeout=60)) == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("size", [0, 10, 100_000, 4 << 20])
def test_messages_that_are_compressed_by_gzip(echo, size):
    message = bytes(size)
    assert echo.unary(message, timeout=60, compression=grpc.Compression.Gzip) == message
    messages = [message, b"plain", message]
    assert list(echo.stream(iter(messages), timeout=60, compression=grpc.Compression.Gzip)) == messages


def test_another_compression_is_refused_and_the_encodings_are_named(echo):
    with pytest.raises(grpc.RpcError) as error:
        echo.unary(b"a" * 1000, timeout=60, compression=grpc.Compression.Deflate)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "identity,gzip" in error.value.details()


def cancelled(echo):
    return int(echo.method("CancelCount")(b"", timeout=60))


def test_a_deadline_ends_the_call_on_both_sides(echo):
    before = cancelled(echo)
    assert code_of(lambda: echo.method("Never")(b"", timeout=3)) == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for("the handler is told", lambda: cancelled(echo) == before + 1)


def test_a_cancelled_call_is_told_to_the_handler(echo):
    before = cancelled(echo)
    call = echo.method("Never").future(b"")
    echo.unary(b"")  # answered after the call before it has arrived
    call.cancel()
    wait_for("the handler is told", lambda: cancelled(echo) == before + 1)


def test_metadata_comes_back_in_headers_and_trailers(echo):
    pairs = [("plain", "a b c"), ("raw-bin", bytes(range(256))), ("two", "1"), ("two", "2"), ("raw-bin", b"\xff")]
    _, call = echo.method("Metadata").with_call(b"", metadata=pairs, timeout=60)
    for received in (call.initial_metadata(), call.trailing_metadata()):
        assert sorted((key, value) for key, value in received if key in {"plain", "raw-bin", "two"}) == sorted(pairs)


def test_five_thousand_calls_at_once(echo):
    calls = [echo.unary.future(b"%d" % number, timeout=60) for number in range(5000)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(5000)]


def test_many_connections(echo):
    port = echo.channel._channel.target().decode().rsplit(":", 1)[1]
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(20)]
    for channel in channels:
        assert channel.unary_unary("/echo.Echo/Unary", raw, raw)(b"q", timeout=60) == b"q"
        channel.close()
