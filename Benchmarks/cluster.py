"""`make bench-cluster`: replicated writes and linearizable reads of three nodes, beside three etcd servers on the same
disk, both driven by h2load, in alternation. RAFTORAL_BENCH_SECONDS for each measurement (default 5)."""

import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from measure import ROOT, Load, Server, body, field, frame, table, wait_until

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
        load = Load(f"http://127.0.0.1:{self.ports[at]}{path}", *setting, seconds=seconds, data=body(data))
        assert load.failed == 0, f"{self.name}: {load.failed} requests failed"
        return load

    def measure_put(self, setting):
        before = self.cpu_seconds
        load = self.load(self.put_path, self.put_body, setting, self.leader())
        # The second of warm-up is served too.
        load.cpu = (self.cpu_seconds - before) / (load.rate * (SECONDS + 1)) * 1e5
        self.puts[setting].append(load)

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


def cold_starts(directory):
    """From exec to the first durable write: empty, and after kill -9 with 50,000 writes in the log (ms)."""
    data, results = os.path.join(directory, "cold"), []
    put = body(Raftoral.put_body)
    port = free_ports(1)[0]
    for kind in ("empty", "after 50,000 writes and kill -9"):
        began = time.perf_counter()
        server = Server("raftoral", [OURS, "--address", f"127.0.0.1:{port}", "--data-dir", data, "--bootstrap",
                                     "--log-level", "error"], stdout=subprocess.DEVNULL)
        try:
            while True:
                done = subprocess.run(
                    ["h2load", "-c", "1", "-m", "1", "-n", "1", "-H", "content-type: application/grpc", "-d", put,
                     f"http://127.0.0.1:{port}{Raftoral.put_path}"], capture_output=True, text=True)
                if "1 succeeded" in done.stdout:
                    break
            results.append((kind, (time.perf_counter() - began) * 1e3))
            if kind == "empty":
                Load(f"http://127.0.0.1:{port}{Raftoral.put_path}", 8, 32, requests=50_000, data=put)
        finally:
            server.end()
    return results


def failovers(cluster):
    """From the leader's kill -9 to the next successful write through another node (seconds)."""
    import grpc

    times = []
    for number in range(FAILOVERS):
        progress(f"{cluster.name}: failover {number + 1} of {FAILOVERS}")
        leader = cluster.leader()
        other = (leader + 1 + random.randrange(2)) % 3
        channel = grpc.insecure_channel(f"127.0.0.1:{cluster.ports[other]}")
        put = channel.unary_unary(cluster.put_path, request_serializer=lambda x: x, response_deserializer=lambda x: x)
        message = cluster.put_body[5:]
        put(message, timeout=10)
        cluster.servers[leader].process.kill()
        began = time.perf_counter()
        while True:
            try:
                put(message, timeout=5)
                break
            except grpc.RpcError:
                assert time.perf_counter() - began < 30
        times.append(time.perf_counter() - began)
        channel.close()
        cluster.servers[leader].process.wait()
        cluster.launch(leader, fresh=False)
        time.sleep(2)
    return times


def main():
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
            for cluster in clusters:
                times = failovers(cluster)
                print(f"{cluster.name}: kill -9 of the leader to the next write: median {statistics.median(times):.2f} s, "
                      f"{min(times):.2f}–{max(times):.2f} s, {len(times)} kills")
        finally:
            for cluster in clusters:
                cluster.end()
        single(directory, fsync, trip)
        for kind, milliseconds in cold_starts(directory):
            print(f"Cold start to the first durable write, {kind}: {milliseconds:.0f} ms")


def single(directory, fsync, trip):
    port = free_ports(1)[0]
    server = Server("raftoral", [OURS, "--address", f"127.0.0.1:{port}", "--data-dir", os.path.join(directory, "single"),
                                 "--bootstrap", "--log-level", "error"], stdout=subprocess.DEVNULL)
    try:
        url, put = f"http://127.0.0.1:{port}{Raftoral.put_path}", body(Raftoral.put_body)
        time.sleep(2)
        load = Load(url, 1, 1, seconds=SECONDS, data=put)
        floor = fsync + trip
        print(f"One node, -c 1 -m 1: p50 {load.percentile(0.5)} µs; the machine's fdatasync {fsync:.0f} µs + round trip "
              f"{trip:.0f} µs = {floor:.0f} µs; ratio {load.percentile(0.5) / floor:.2f}")
    finally:
        server.end()


def report(clusters, follower, stale):
    ours = clusters[0]

    def best(loads):
        return max(loads, key=lambda load: load.rate)

    rows = []
    for setting in SETTINGS:
        for cluster in clusters:
            load, own = best(cluster.puts[setting]), best(ours.puts[setting])
            rows.append([f"writes -c {setting[0]} -m {setting[1]}", cluster.name, f"{load.rate:,.0f}",
                         load.percentile(0.5), load.percentile(0.99), f"{load.cpu:.2f}", f"{own.rate / load.rate:.2f}"])
    for cluster in clusters:
        load = best(cluster.gets)
        rows.append(["linearizable reads -c 8 -m 16", cluster.name, f"{load.rate:,.0f}", load.percentile(0.5),
                     load.percentile(0.99), "", f"{best(ours.gets).rate / load.rate:.2f}"])
    rows.append(["writes through a follower -c 32 -m 32", ours.name, f"{follower.rate:,.0f}", follower.percentile(0.5),
                 follower.percentile(0.99), "", ""])
    rows.append(["stale reads -c 8 -m 16", ours.name, f"{stale.rate:,.0f}", stale.percentile(0.5),
                 stale.percentile(0.99), "", ""])
    print("\nThree nodes, keys of 16 bytes, values of 256; the best of the rounds; CPU seconds of all nodes per 100,000")
    table(["work", "cluster", "requests/s", "p50 µs", "p99 µs", "CPU s", "ours ÷ it"], rows)
    print("\nResident memory of the largest node before any load: "
          + ", ".join(f"{cluster.name} {cluster.idle_kibibytes / 1024:.1f} MiB" for cluster in clusters))


main()
