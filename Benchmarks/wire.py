"""`make bench-wire`: unary echo by h2load, of our server and of its peers, in alternation; the server on one core, the
client on the other. RAFTORAL_BENCH_SECONDS for each measurement (default 4), RAFTORAL_BENCH_ROUNDS (default 2)."""

import os
import shutil
import subprocess
import sys
import tempfile

from measure import (
    ROOT, Load, Server, body, field, frame, instructions_per_request, print_circumstances, table, wait_until)

SECONDS = int(os.environ.get("RAFTORAL_BENCH_SECONDS", "4"))
ROUNDS = int(os.environ.get("RAFTORAL_BENCH_ROUNDS", "2"))
SETTINGS = [(1, 1), (10, 10), (10, 100)]
SERVER_CORE, CLIENT_CORE = "0", "1"
OURS = ROOT / ".build/release/grpc-echo-server"
CPP = ROOT / "Benchmarks/.build/cpp/echo_server"
SWIFT = ROOT / "Benchmarks/grpc-swift/.build/release/grpc-swift-echo"

# A text of 6 bytes and 16 bytes of data.
MESSAGE = field(1, b"a/text") + field(2, b"0123456789abcdef")


class Peer:
    def __init__(self, name, command, path, is_grpc=True, posts=True):
        self.name, self.command, self.path, self.is_grpc, self.posts = name, command, path, is_grpc, posts
        self.results = {setting: [] for setting in SETTINGS}
        self.resident = 0

    def start(self):
        server = Server(self.name, self.command, cores=SERVER_CORE, stdout=subprocess.PIPE)
        if self.is_grpc:
            return server.read_port()
        server.port = int(self.command[-1])
        wait_until(f"{self.name} listens", server.listens)
        return server

    def measure(self, setting, data):
        server = self.start()
        try:
            url = f"http://127.0.0.1:{server.port}{self.path}"
            kind = {"data": data, "grpc": True} if self.posts else {"grpc": False}
            Load(url, 1, 1, requests=100, cores=CLIENT_CORE, **kind)
            before = server.cpu_seconds
            load = Load(url, *setting, seconds=SECONDS, cores=CLIENT_CORE, **kind)
            assert load.failed == 0, f"{self.name}: {load.failed} requests failed"
            # The second of warm-up is served too.
            load.cpu = (server.cpu_seconds - before) / max(1, load.rate * (SECONDS + 1)) * 1e6
            self.results[setting].append(load)
            self.resident = max(self.resident, server.resident_kibibytes)
        finally:
            server.end()

    def best(self, setting):
        return max(self.results[setting], key=lambda load: load.rate)


def peers(directory):
    found = [Peer("raftoral", [OURS], "/bench.Echo/Unary")]
    if shutil.which("nghttpd"):
        with open(os.path.join(directory, "tiny"), "wb") as file:
            file.write(MESSAGE)
        command = ["nghttpd", "--no-tls", "-d", directory, "-a", "127.0.0.1", "18443"]
        found.append(Peer("nghttpd, static file", command, "/tiny", is_grpc=False, posts=False))
        # What the client sends costs as much as the answer: the same request as ours, and the file as the answer.
        found.append(Peer("nghttpd, file after our POST", command, "/tiny", is_grpc=False))
    if CPP.exists():
        found.append(Peer("grpc C++", [CPP], "/bench.Echo/Unary"))
    if SWIFT.exists():
        found.append(Peer("grpc-swift-2", [SWIFT], "/bench.Echo/Unary"))
    for name, what in [("nghttpd", shutil.which("nghttpd")), ("grpc C++", CPP.exists()), ("grpc-swift-2", SWIFT.exists())]:
        if not what:
            print(f"{name} is missing: make deps-bench installs and builds it", file=sys.stderr)
    return found


def unary(directory):
    data, all_peers = body(frame(MESSAGE)), peers(directory)
    for round_number in range(ROUNDS):
        for setting in SETTINGS:
            for peer in all_peers:
                print(f"… round {round_number + 1} of {ROUNDS}, -c {setting[0]} -m {setting[1]}, {peer.name}",
                      file=sys.stderr, flush=True)
                peer.measure(setting, data)
    ours = all_peers[0]
    rows = []
    for setting in SETTINGS:
        for peer in all_peers:
            load, own = peer.best(setting), ours.best(setting)
            rows.append([
                f"-c {setting[0]} -m {setting[1]}", peer.name, f"{load.rate:,.0f}", f"{load.cpu:.2f}",
                load.percentile(0.5), load.percentile(0.99), f"{peer.resident / 1024:.0f}", f"{own.rate / load.rate:.2f}",
                f"{load.cpu / own.cpu:.2f}"])
    print(f"\nUnary echo of {len(MESSAGE)} bytes, the best of {ROUNDS} rounds of {SECONDS} s")
    table(["setting", "server", "requests/s", "CPU µs", "p50 µs", "p99 µs", "MiB", "ours ÷ it", "its CPU ÷ ours"], rows)


def stream():
    count = 20_000
    message = field(1, b"a/text") + field(2, b"x" * 90)
    data = body(frame(message) * count)
    server = Server("raftoral", [OURS], cores=SERVER_CORE, stdout=subprocess.PIPE).read_port()
    try:
        url = f"http://127.0.0.1:{server.port}/bench.Echo/Stream"
        load = max((Load(url, 1, 1, requests=50, data=data, cores=CLIENT_CORE) for _ in range(ROUNDS)),
                   key=lambda load: load.rate)
        assert load.failed == 0 and load.count == 50
    finally:
        server.end()
    print(f"\nBidirectional stream, messages of {len(message)} bytes: {load.rate * count:,.0f} a second each way")


def instructions():
    if not shutil.which("valgrind"):
        print("valgrind is missing: no instructions per request", file=sys.stderr)
        return
    data = body(frame(MESSAGE))

    def drive(port, count):
        Load(f"http://127.0.0.1:{port}/bench.Echo/Unary", 10, 10, requests=count, data=data)

    print(f"Instructions per request, -c 10 -m 10: {instructions_per_request(OURS, drive):,.0f}")


print_circumstances("Begin")
with tempfile.TemporaryDirectory() as directory:
    unary(directory)
stream()
instructions()
print_circumstances("\nEnd")
