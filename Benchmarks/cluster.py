"""`make bench-cluster`: replicated writes and linearizable reads of three nodes, beside three etcd servers on the same
disk, both driven by h2load, in alternation. RAFTORAL_BENCH_SECONDS for each measurement (default 5)."""

import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from measure import ROOT, Load, Server, body, field, frame, print_circumstances, table, wait_until

SECONDS = int(os.environ.get("RAFTORAL_BENCH_SECONDS", "5"))
ROUNDS = int(os.environ.get("RAFTORAL_BENCH_ROUNDS", "2"))
FAILOVERS = int(os.environ.get("RAFTORAL_BENCH_FAILOVERS", "7"))
SETTINGS = [(1, 1), (8, 16), (32, 32)]
OURS = ROOT / ".build/release/raftoral"
KEY, VALUE = b"key-of-16-bytes!", b"v" * 256


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Three servers; subclasses say how they start and what a write and a read are."""

    name, put_path, get_path = "", "", ""
    put_body, get_body, stale_body = b"", b"", b""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.servers = []
        self.puts = {setting: [] for setting in SETTINGS}
        self.gets = []
        self.idle_kibibytes = 0

    @property
    def cpu_seconds(self):
        return sum(server.cpu_seconds for server in self.servers)

    def load(self, path, data, setting, at, seconds=SECONDS):
        before = self.cpu_seconds
        load = Load(f"http://127.0.0.1:{self.ports[at]}{path}", *setting, seconds=seconds, data=body(data))
        assert load.failed == 0, f"{self.name}: {load.failed} requests failed"
        # The second of warm-up is served too.
        load.cpu = (self.cpu_seconds - before) / (load.rate * (seconds + 1)) * 1e5
        return load

    def measure_put(self, setting):
        self.puts[setting].append(self.load(self.put_path, self.put_body, setting, self.leader()))

    def end(self):
        for server in self.servers:
            server.end()


class Raftoral(Cluster):
    name = "raftoral"
    put_path, get_path = "/raftoral.VariableService/Put", "/raftoral.VariableService/Get"
    put_body = frame(field(1, KEY) + field(2, VALUE))
    get_body = frame(field(1, KEY))
    stale_body = frame(field(1, KEY) + b"\x10\x01")

    def start(self):
        self.ports = free_ports(3)
        for place in range(3):
            self.launch(place)
        wait_until("three voters", lambda: self.status().count("voter") >= 6)

    def launch(self, place, fresh=True):
        how = ["--bootstrap"] if place == 0 else ["--peers", f"127.0.0.1:{self.ports[0]}"]
        command = [OURS, "--address", f"127.0.0.1:{self.ports[place]}", "--data-dir", self.directory / str(place),
                   "--log-level", "error", *how]
        server = Server(self.name, command, stdout=subprocess.DEVNULL)
        if place < len(self.servers):
            self.servers[place] = server
        else:
            self.servers.append(server)
        wait_until("the node answers", lambda: self.status(place) != "")

    def status(self, place=0):
        done = subprocess.run(
            [OURS, "cluster", "status", "--address", f"127.0.0.1:{self.ports[place]}", "--timeout", "2"],
            capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else ""

    def leader(self):
        import json

        for place in range(3):
            if self.servers[place].process.poll() is not None:
                continue
            done = subprocess.run(
                [OURS, "cluster", "status", "--address", f"127.0.0.1:{self.ports[place]}", "--output", "json"],
                capture_output=True, text=True)
            if done.returncode == 0:
                status = json.loads(done.stdout)
                leader = next(g["leaderNodeID"] for g in status["groups"] if g["groupID"] == 1)
                for member in status["members"]:
                    if member["nodeID"] == leader:
                        return self.ports.index(int(member["address"].rsplit(":", 1)[1]))
        raise AssertionError("no leader")


class Etcd(Cluster):
    name = "etcd"
    put_path, get_path = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"
    put_body = frame(field(1, KEY) + field(2, VALUE))
    get_body = frame(field(1, KEY))

    def start(self):
        self.ports, self.peer_ports = free_ports(3), free_ports(3)
        for place in range(3):
            self.launch(place)
        wait_until("etcd has a leader", lambda: self._leader_or_none() is not None)

    def launch(self, place, fresh=True):
        cluster = ",".join(f"n{n}=http://127.0.0.1:{port}" for n, port in enumerate(self.peer_ports))
        client, peer = (f"http://127.0.0.1:{ports[place]}" for ports in (self.ports, self.peer_ports))
        command = ["etcd", "--name", f"n{place}", "--data-dir", self.directory / f"etcd-{place}",
                   "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                   "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--log-level", "error"]
        server = Server(self.name, command, stdout=subprocess.DEVNULL)
        if place < len(self.servers):
            self.servers[place] = server
        else:
            self.servers.append(server)

    def _leader_or_none(self):
        endpoints = ",".join(f"http://127.0.0.1:{port}" for port in self.ports)
        done = subprocess.run(["etcdctl", "--endpoints", endpoints, "endpoint", "status"], capture_output=True, text=True,
                              env={**os.environ, "ETCDCTL_API": "3"})
        for line in done.stdout.splitlines():
            if re.search(r", true,", line):
                return self.ports.index(int(re.search(r":(\d+),", line)[1]))
        return None

    def leader(self):
        found = self._leader_or_none()
        assert found is not None, "etcd has no leader"
        return found


def progress(text):
    print(f"… {text}", file=sys.stderr, flush=True)


def probe_floor(directory):
    """The machine's own: fdatasync of 512 bytes in a file that is there, and a round trip over loopback (p50, µs)."""
    path = os.path.join(directory, "probe")
    with open(path, "wb") as file:
        file.write(bytes(4 << 20))
        os.fsync(file.fileno())
    descriptor, times = os.open(path, os.O_WRONLY), []
    for place in range(2000):
        began = time.perf_counter()
        os.pwrite(descriptor, b"x" * 512, place * 512)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - began)
    os.close(descriptor)
    a, b = socket.socketpair()
    trips = []
    child = os.fork()
    if child == 0:
        # Its copy would keep the end of the conversation from ever coming.
        a.close()
        while data := b.recv(64):
            b.send(data)
        os._exit(0)
    b.close()
    for _ in range(2000):
        began = time.perf_counter()
        a.send(b"x")
        a.recv(64)
        trips.append(time.perf_counter() - began)
    a.close()
    os.waitpid(child, 0)
    return statistics.median(times) * 1e6, statistics.median(trips) * 1e6


def single_node(name, data, port):
    """The command of one node that is a cluster."""
    address = f"127.0.0.1:{port}"
    if name == "raftoral":
        return [OURS, "--address", address, "--data-dir", data, "--bootstrap", "--log-level", "error"]
    peer = f"http://127.0.0.1:{free_ports(1)[0]}"
    return ["etcd", "--data-dir", data, "--listen-client-urls", f"http://{address}", "--advertise-client-urls",
            f"http://{address}", "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
            f"default={peer}", "--log-level", "error"]


def cold_starts(kind, directory):
    """From exec to the first durable write: empty, and after kill -9 with 50,000 writes in the log (ms)."""
    results, put, port = [], body(kind.put_body), free_ports(1)[0]
    url = f"http://127.0.0.1:{port}{kind.put_path}"
    ask = ["h2load", "-c", "1", "-m", "1", "-n", "1", "-H", "content-type: application/grpc", "-d", put, url]
    for attempt in range(2):
        began = time.perf_counter()
        command = single_node(kind.name, os.path.join(directory, f"cold-{kind.name}"), port)
        server = Server(kind.name, command, stdout=subprocess.DEVNULL)
        try:
            while "1 succeeded" not in subprocess.run(ask, capture_output=True, text=True).stdout:
                assert time.perf_counter() - began < 60, f"{kind.name} does not start"
            results.append((time.perf_counter() - began) * 1e3)
            if attempt == 0:
                Load(url, 8, 32, requests=50_000, data=put)
        finally:
            server.end()
    return results


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def failovers(cluster, signal_number):
    """From the signal to the leader to the end of the first write that began after it, asked of another node; a write
    is begun every 10 ms (seconds)."""
    import grpc

    times = []
    for number in range(FAILOVERS):
        progress(f"{cluster.name}: {signal_number.name}, {number + 1} of {FAILOVERS}")
        leader = cluster.leader()
        other = (leader + 1 + random.randrange(2)) % 3
        channel = grpc.insecure_channel(f"127.0.0.1:{cluster.ports[other]}")
        put = channel.unary_unary(cluster.put_path, request_serializer=lambda x: x, response_deserializer=lambda x: x)
        message = cluster.put_body[5:]
        put(message, timeout=30, wait_for_ready=True)
        process = cluster.servers[leader].process
        process.send_signal(signal_number)
        began, attempts = time.perf_counter(), []
        while not any(attempt.done() and attempt.exception() is None for attempt in attempts):
            assert time.perf_counter() - began < 30, f"{cluster.name}: no write within 30 s"
            attempts.append(put.future(message, timeout=30))
            time.sleep(0.01)
        times.append(time.perf_counter() - began)
        channel.close()
        if signal_number is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
        else:
            process.wait()
            cluster.launch(leader, fresh=False)
        time.sleep(3)
    return spread(times) if times else "not measured"


def main():
    print_circumstances("Begin")
    with tempfile.TemporaryDirectory(dir=ROOT / ".build") as directory:
        fsync, trip = probe_floor(directory)
        clusters = [Raftoral(directory)]
        if shutil.which("etcd"):
            clusters.append(Etcd(directory))
        else:
            print("etcd is missing: make deps-bench installs it", file=sys.stderr)
        try:
            for cluster in clusters:
                cluster.start()
            time.sleep(3)
            for cluster in clusters:
                cluster.idle_kibibytes = max(server.resident_kibibytes for server in cluster.servers)
                cluster.idle_anonymous_kibibytes = max(server.anonymous_kibibytes for server in cluster.servers)
            for cluster in clusters:
                cluster.load(cluster.put_path, cluster.put_body, (1, 1), cluster.leader(), seconds=1)
            for round_number in range(ROUNDS):
                for cluster in clusters:
                    progress(f"round {round_number + 1} of {ROUNDS}, reads, {cluster.name}")
                    cluster.gets.append(cluster.load(cluster.get_path, cluster.get_body, (8, 16), cluster.leader()))
            for round_number in range(ROUNDS):
                for setting in SETTINGS:
                    for cluster in clusters:
                        progress(f"round {round_number + 1} of {ROUNDS}, writes -c {setting[0]} -m {setting[1]}, {cluster.name}")
                        cluster.measure_put(setting)
            ours = clusters[0]
            follower = ours.load(ours.put_path, ours.put_body, (32, 32), (ours.leader() + 1) % 3)
            stale = ours.load(ours.get_path, ours.stale_body, (8, 16), ours.leader())
            report(clusters, follower, stale)
            others = [
                ["resident MiB of the largest node before any load", "half of etcd's",
                 *(f"{cluster.idle_kibibytes / 1024:.1f}" for cluster in clusters)],
                ["of that, without pages of files (MiB)", "",
                 *(f"{cluster.idle_anonymous_kibibytes / 1024:.1f}" for cluster in clusters)]]
            for signal_number, target in [(signal.SIGKILL, "< 0.4"), (signal.SIGSTOP, "< 1.2")]:
                what = f"{signal_number.name} of the leader to the next write (s): median of {FAILOVERS}, range"
                others.append([what, target, *(failovers(cluster, signal_number) for cluster in clusters)])
        finally:
            for cluster in clusters:
                cluster.end()
        starts = [cold_starts(type(cluster), directory) for cluster in clusters]
        for place, (kind, target) in enumerate([("empty", "< 100"), ("50,000 writes and kill -9 before", "< 300")]):
            what = f"exec to the first durable write, {kind} (ms)"
            others.append([what, target, *(f"{times[place]:.0f}" for times in starts)])
        others.append(single(directory, fsync, trip) + [""] * (len(clusters) - 1))
        print()
        table(["what", "target", *(cluster.name for cluster in clusters)], others)
    print_circumstances("\nEnd")


def single(directory, fsync, trip):
    port = free_ports(1)[0]
    server = Server("raftoral", single_node("raftoral", os.path.join(directory, "single"), port),
                    stdout=subprocess.DEVNULL)
    try:
        url, put = f"http://127.0.0.1:{port}{Raftoral.put_path}", body(Raftoral.put_body)
        time.sleep(2)
        load = Load(url, 1, 1, seconds=SECONDS, data=put)
        floor = fsync + trip
        return [f"one node, -c 1 -m 1: p50 ÷ (fdatasync {fsync:.0f} µs + round trip {trip:.0f} µs)", "≤ 1.5",
                f"{load.percentile(0.5) / floor:.2f}"]
    finally:
        server.end()


def report(clusters, follower, stale):
    ours = clusters[0]

    def best(loads):
        return max(loads, key=lambda load: load.rate)

    rows = []

    def add(work, name, load, own=None):
        ratios = [f"{own.rate / load.rate:.2f}", f"{load.cpu / own.cpu:.2f}"] if own else ["", ""]
        rows.append([work, name, f"{load.rate:,.0f}", load.percentile(0.5), load.percentile(0.99), f"{load.cpu:.2f}", *ratios])

    for setting in SETTINGS:
        for cluster in clusters:
            load, own = best(cluster.puts[setting]), best(ours.puts[setting])
            add(f"writes -c {setting[0]} -m {setting[1]}", cluster.name, load, own)
    for cluster in clusters:
        add("linearizable reads -c 8 -m 16", cluster.name, best(cluster.gets), best(ours.gets))
    add("writes through a follower -c 32 -m 32", ours.name, follower)
    add("stale reads -c 8 -m 16", ours.name, stale)
    print("\nThree nodes, keys of 16 bytes, values of 256; the best of the rounds; CPU seconds of all nodes per 100,000")
    table(["work", "cluster", "requests/s", "p50 µs", "p99 µs", "CPU s", "ours ÷ it", "its CPU ÷ ours"], rows)


if __name__ == "__main__":
    main()
