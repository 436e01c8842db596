"""`make bench-durability`: the start of a node with a million ended runs and ten thousand running ones, and a follower
that is 1 GiB behind: what the cluster still does while it catches up. RAFTORAL_BENCH_ENDED, RAFTORAL_BENCH_RUNNING and
RAFTORAL_BENCH_BEHIND_MIB make it smaller."""

import asyncio
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import cluster as peers
from measure import ROOT, Load, Server, body, field, frame, print_circumstances, table, wait_until

ENDED = int(os.environ.get("RAFTORAL_BENCH_ENDED", "1000000"))
RUNNING = int(os.environ.get("RAFTORAL_BENCH_RUNNING", "10000"))
BEHIND = int(os.environ.get("RAFTORAL_BENCH_BEHIND_MIB", "1024"))
START = "/raftoral.WorkflowService/StartWorkflow"
PROGRAM = peers.OURS


def start_body(kind, value):
    payload = field(1, b"json/plain") + field(2, json.dumps(value).encode())
    return body(frame(field(2, kind) + field(4, payload)))


class Metrics:
    """The values of /metrics of one node."""

    def __init__(self, port):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        self.samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]

    def total(self, name, *labels):
        return sum(float(value) for key, value in self.samples
                   if key.split("{")[0] == name and all(label in key for label in labels))


# MARK: A start with many runs


def start_runs(port, admin, kind, value, count):
    """Until `count` starts were answered with OK: others are refused while the node has enough to do."""
    url, data = f"http://127.0.0.1:{port}{START}", start_body(kind, value)

    def started():
        return Metrics(admin).total("raftoral_grpc_server_handled_total", "StartWorkflow", 'code="OK"')

    before = started()
    while (done := started() - before) < count:
        peers.progress(f"{int(done):,} of {count:,} runs of {kind.decode()} started")
        Load(url, 8, 16, requests=int(min(50_000, count - done)), data=data)


def is_quiet(admin):
    """All that run are in hand, and nothing happens within a second."""
    def look():
        metrics = Metrics(admin)
        in_hand = metrics.total("raftoral_workflow_executing") + metrics.total("raftoral_workflow_parked")
        return in_hand, metrics.total("raftoral_raft_applied_index")

    before = look()
    time.sleep(1)
    return before[0] == RUNNING and look() == before


def count_in_backup(port, directory):
    path = os.path.join(directory, "runs.backup")
    subprocess.run([PROGRAM, "backup", "--address", f"127.0.0.1:{port}", "--out", path], check=True,
                   stdout=subprocess.DEVNULL)
    with sqlite3.connect(path) as database:
        rows = dict(database.execute("SELECT status, count(*) FROM runs GROUP BY status"))
    os.unlink(path)
    return rows


def restarts(directory):
    data = os.path.join(directory, "many-runs")
    port, admin = peers.free_ports(2)
    command = [*peers.single_node("raftoral", data, port), "--admin-address", f"127.0.0.1:{admin}"]
    put = body(peers.Raftoral.put_body)
    ask = ["h2load", "-c", "1", "-m", "1", "-n", "1", "-H", "content-type: application/grpc", "-d", put,
           f"http://127.0.0.1:{port}{peers.Raftoral.put_path}"]

    def serves():
        return "1 succeeded" in subprocess.run(ask, capture_output=True, text=True).stdout

    def is_ready():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=10).status == 200
        except OSError:
            return False

    server = Server("raftoral", command, stdout=subprocess.DEVNULL)
    try:
        wait_until("the node is ready", is_ready)
        began = time.perf_counter()
        start_runs(port, admin, b"ping_pong", {"message": "ping"}, ENDED)
        ended_within = time.perf_counter() - began
        order = {"orderID": "order", "items": ["apple"], "amountCents": 100, "waitMilliseconds": 86_400_000}
        start_runs(port, admin, b"process_order", order, RUNNING)
        wait_until("all runs have ended or wait for their timers", lambda: is_quiet(admin), within=600)
        memory = [server.resident_kibibytes / 1024]
        counts = count_in_backup(port, directory)
        print(f"in the backup, runs by status: {counts}; the ended ones were made in {ended_within:.0f} s", flush=True)
        assert sum(counts.values()) >= ENDED + RUNNING, counts
        size = sum(os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(data) for name in names)
        writes, readies, resumed = [], [], []
        for number in range(3):
            peers.progress(f"restart {number + 1} of 3")
            server.end()
            began = time.perf_counter()
            server = Server("raftoral", command, stdout=subprocess.DEVNULL)
            while not serves():
                assert time.perf_counter() - began < 120, "the node does not start"
            writes.append(time.perf_counter() - began)
            while not is_ready():
                assert time.perf_counter() - began < 120, "the node does not become ready"
            readies.append(time.perf_counter() - began)
            wait_until("all runs wait for their timers again", lambda: is_quiet(admin))
            resumed.append(time.perf_counter() - began)
            memory.append(server.resident_kibibytes / 1024)
    finally:
        server.end()
    return [
        [f"{ENDED:,} ended and {RUNNING:,} running runs: kill -9, exec to the first durable write (s), of 3", "< 3",
         peers.spread(writes)],
        ["… to /readyz (s)", "< 3", peers.spread(readies)],
        ["… until all running ones are resumed, and a second of quiet (s)", "", peers.spread(resumed)],
        ["resident MiB: after the load, after the starts", "", " / ".join(f"{value:.0f}" for value in memory)],
        ["data directory (MiB)", "", f"{size / 2**20:.0f}"],
    ]


# MARK: A follower that is far behind


async def fill(address, count, keys, value):
    """`count` puts of `value` over `keys` keys, 64 at a time."""
    import grpc

    async with grpc.aio.insecure_channel(address) as channel:
        put = channel.unary_unary(peers.Raftoral.put_path, request_serializer=lambda x: x,
                                  response_deserializer=lambda x: x)
        rest = iter(range(count))

        async def work():
            for place in rest:
                message = field(1, b"large-%d" % (place % keys)) + field(2, value)
                deadline = time.monotonic() + 60
                while True:
                    try:
                        await put(message, timeout=60)
                        break
                    except grpc.aio.AioRpcError as error:
                        # The node has enough to do.
                        if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > deadline:
                            raise
                        await asyncio.sleep(0.05)
                if place % 2000 == 0:
                    peers.progress(f"{place:,} of {count:,} values of {len(value) // 1024} KiB written")

        await asyncio.gather(*(work() for _ in range(64)))


def catch_up(directory, keys, name):
    """The writes of a cluster with a follower away, with it catching up, and with it back."""
    ours = peers.Raftoral(os.path.join(directory, name))
    os.mkdir(ours.directory)
    try:
        ours.start()
        time.sleep(2)
        leader = ours.leader()
        behind = (leader + 1) % 3
        process = ours.servers[behind].process
        process.send_signal(signal.SIGKILL)
        process.wait()
        count = BEHIND * 16
        asyncio.run(fill(f"127.0.0.1:{ours.ports[leader]}", count, min(keys, count), os.urandom(64 << 10)))

        url, data = f"http://127.0.0.1:{ours.ports[leader]}{ours.put_path}", body(ours.put_body)

        def applied(place):
            done = subprocess.run(
                [PROGRAM, "cluster", "status", "--address", f"127.0.0.1:{ours.ports[place]}", "--output", "json"],
                capture_output=True, text=True)
            if done.returncode != 0:
                return 0
            return next(int(group["appliedIndex"]) for group in json.loads(done.stdout)["groups"]
                        if group["groupID"] == 1)

        def window():
            load = Load(url, 8, 16, seconds=2, data=data)
            assert load.failed == 0, f"{load.failed} requests failed"
            return load.rate

        peers.progress("writes with the follower away")
        away = [window() for _ in range(3)]
        ours.launch(behind, fresh=False)
        began, during = time.perf_counter(), []
        while applied(behind) < applied(leader) - 20_000:
            assert time.perf_counter() - began < 600, "the follower does not catch up"
            rate = window()
            during.append(rate)
            peers.progress(f"catching up: {rate:,.0f} writes/s, at {applied(behind):,} of {applied(leader):,}")
        within = time.perf_counter() - began
        back = [window() for _ in range(3)]
        assert ours.leader() == leader, "the leader has changed"
    finally:
        ours.end()
    middle = statistics.mean(during)
    return [[
        name, f"{statistics.mean(away):,.0f}", f"{middle:,.0f} ({min(during):,.0f}–{max(during):,.0f})",
        f"{statistics.mean(back):,.0f}", f"{middle / statistics.mean(back):.2f}", f"{within:.0f}"]]


def main():
    parts = sys.argv[1:] or ["restart", "behind"]
    print_circumstances("Begin")
    with tempfile.TemporaryDirectory(dir=ROOT / ".build") as directory:
        if "restart" in parts:
            rows = restarts(directory)
            table(["what", "target", "raftoral"], rows)
            print(flush=True)
        if "behind" in parts:
            rows = catch_up(directory, 100, f"{BEHIND} MiB behind, 100 values of 64 KiB")
            rows += catch_up(directory, 8_000, f"{BEHIND} MiB behind, 8,000 values of 64 KiB")
            table(["writes/s at -c 8 -m 16 (the target is 0.8)", "follower away", "catching up", "back", "÷ back",
                   "seconds"], rows)
    print_circumstances("\nEnd")


if __name__ == "__main__":
    main()
