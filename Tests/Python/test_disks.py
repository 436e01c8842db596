"""Full, slow and failing disks under real nodes. A full disk is a small tmpfs in a mount namespace of its own; a disk stalls
or fails when a library that is loaded before libc holds back its fdatasync, or lets it fail."""

import itertools
import os
import pathlib
import shutil
import subprocess
import threading
import time

import grpc
import pytest
import raftoral_pb2 as pb
from nodes import failure, leader_and_followers, wait_for

VALUE = 20_000
# A call that a full or slow disk may cost; whoever calls tries again.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class SmallDisk:
    """A tmpfs that lives as long as the process that holds its namespace."""

    def __init__(self, directory, megabytes):
        assert os.geteuid() == 0, "mounts need root: run the tests as root"
        for tool in ("unshare", "nsenter", "mount"):
            assert shutil.which(tool), f"{tool} is missing: run scripts/deps.sh util-linux mount"
        directory.mkdir()
        self.path = directory
        script = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1" && echo ready && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", directory], stdout=subprocess.PIPE)
        assert self._holder.stdout.readline() == b"ready\n"
        # Seen from outside of its namespace.
        self.inside = pathlib.Path(f"/proc/{self._holder.pid}/root{directory}")
        self.prefix = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={directory.parent}")

    def fill(self):
        with open(self.inside / "filler", "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass

    def fill_but_for(self, byte_count):
        space = os.statvfs(self.inside)
        (self.inside / "filler").write_bytes(bytes(space.f_bavail * space.f_frsize - byte_count))

    def free(self):
        (self.inside / "filler").unlink()

    def close(self):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()


@pytest.fixture
def disks(tmp_path):
    opened = []

    def make(megabytes=24):
        disk = SmallDisk(tmp_path / f"disk-{len(opened)}", megabytes)
        opened.append(disk)
        return disk

    yield make
    for disk in opened:
        disk.close()


def start(processes, disk, *flags, name="data", **options):
    return processes.node("--data-dir", disk.path / name, *flags, prefix=disk.prefix, **options)


def join(processes, disk, peer, **options):
    return start(processes, disk, "--peers", peer.address, "--discovery-timeout", 300, **options).wait_until_running()


def voters(nodes):
    def all_vote():
        groups = nodes[0].status().groups
        return len(groups) == 2 and all(sum(r.voter for r in g.replicas) == len(nodes) for g in groups)

    wait_for("all are voters", all_vote)


class Load:
    """Puts one key after the other through all nodes in turn, and remembers what was acknowledged."""

    def __init__(self, nodes):
        self.nodes, self.acknowledged, self.refusals = nodes, {}, []
        self._stop = threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                key, node = f"key-{number}", self.nodes[number % len(self.nodes)]
                value = b"%d:" % number + os.urandom(VALUE)
                try:
                    node.variables.Put(pb.PutRequest(key=key, value=value, request_id=key), timeout=30)
                    self.acknowledged[key] = value
                except grpc.RpcError as error:
                    if error.code() not in PASSING:
                        raise
                    self.refusals.append((error.code(), error.details()))
                    time.sleep(0.02)
        except Exception as error:  # noqa: BLE001 — told to the test's own thread
            self.error = error

    def goes_on(self):
        """Waits until more is acknowledged than now."""
        goal = len(self.acknowledged) + 10
        wait_for("more is acknowledged", lambda: self.error or len(self.acknowledged) >= goal)
        assert self.error is None, self.error

    def is_refused(self):
        """Waits until a put is refused because of a full disk."""
        begin = len(self.refusals)

        def refused():
            return self.error or any(
                code == grpc.StatusCode.RESOURCE_EXHAUSTED and "full" in details
                for code, details in self.refusals[begin:])

        wait_for("a refusal", refused)
        assert self.error is None, self.error

    def stop(self):
        self._stop.set()
        self._thread.join()
        assert self.error is None, self.error


def check_values(node, acknowledged):
    for key, value in acknowledged.items():
        assert node.variables.Get(pb.GetRequest(key=key), timeout=60).value == value, key


def check_digests(nodes):
    def same():
        seen = [[(g.group_id, g.applied_index, g.applied_digest) for g in node.status().groups] for node in nodes]
        return all(groups == seen[0] for groups in seen)

    wait_for("all nodes have applied the same", same)


def test_full_disk_of_the_only_node(processes, disks):
    disk = disks(16)
    node = start(processes, disk, "--bootstrap").wait_until_running()
    load = Load([node])
    try:
        load.goes_on()
        disk.fill()
        load.is_refused()
        # Reads go on, linearizable ones, too.
        known = dict(load.acknowledged)
        check_values(node, dict(itertools.islice(known.items(), 20)))
        refused = failure(lambda: node.variables.Put(pb.PutRequest(key="k", value=b"v"), timeout=60))
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details() == "the disk of node 1 is full: free some space, and it goes on by itself"
        disk.free()
        load.goes_on()
        assert node.is_running
    finally:
        load.stop()
    check_values(node, load.acknowledged)
    node.process.kill()
    node.wait()
    again = start(processes, disk, port=node.port).wait_until_running()
    check_values(again, load.acknowledged)


def test_full_disk_of_the_leader(processes, disks):
    own = [disks() for _ in range(3)]
    first = start(processes, own[0], "--bootstrap").wait_until_running()
    nodes = [first] + [join(processes, disk, first) for disk in own[1:]]
    voters(nodes)
    load = Load(nodes)
    try:
        load.goes_on()
        leader, others = leader_and_followers(nodes)
        disk = own[nodes.index(leader)]
        disk.fill()

        def led_by_another():
            groups = others[0].status().groups
            return all(g.leader_node_id not in (0, leader.status().node_id) for g in groups)

        wait_for("another node leads", led_by_another)
        # Whoever it is asked through: the full node hands on what it is asked to write.
        for node in nodes:
            put_at_last(node, f"through-{node.port}")
        assert leader.is_running
        disk.free()
        load.goes_on()
    finally:
        load.stop()
    check_digests(nodes)
    for node in nodes:
        check_values(node, dict(itertools.islice(load.acknowledged.items(), 50)))
    check_values(nodes[0], load.acknowledged)


def put_at_last(node, key):
    """Puts, again and again, until the node takes it."""

    def put():
        try:
            return node.variables.Put(pb.PutRequest(key=key, value=b"v", request_id=key), timeout=60).revision
        except grpc.RpcError as error:
            assert error.code() in PASSING, error
            return None

    return wait_for(f"{key} is put", put)


def test_one_full_disk_under_all_nodes(processes, disks):
    disk = disks(48)
    first = start(processes, disk, "--bootstrap", name="1").wait_until_running()
    nodes = [first] + [join(processes, disk, first, name=name) for name in "23"]
    voters(nodes)
    load = Load(nodes)
    try:
        load.goes_on()
        disk.fill()
        load.is_refused()
        known = dict(itertools.islice(load.acknowledged.items(), 10))
        leader, _ = leader_and_followers(nodes)
        check_values(leader, known)
        disk.free()
        load.goes_on()
        assert all(node.is_running for node in nodes)
    finally:
        load.stop()
    check_digests(nodes)
    check_values(nodes[1], load.acknowledged)


@pytest.mark.parametrize("count", [1, 3])
def test_no_room_for_the_state_stores(processes, disks, count):
    """Every disk has room for the log until a batch is due for the state store (`storeByteCount`), and not for that."""
    own = [disks(96) for _ in range(count)]
    first = start(processes, own[0], "--bootstrap").wait_until_running()
    nodes = [first] + [join(processes, disk, first) for disk in own[1:]]
    voters(nodes)
    for disk in own:
        disk.fill_but_for(28 << 20)

    def stored(disk):
        return (disk.inside / "data/state/1.state").stat().st_size

    load = Load(nodes)
    try:
        load.is_refused()
        check_values(nodes[0], dict(itertools.islice(load.acknowledged.items(), 20)))
        assert all(stored(disk) < 1 << 20 for disk in own)
        for disk in own:
            disk.free()
        load.goes_on()
        wait_for("the stores are brought up to date", lambda: all(stored(disk) > 16 << 20 for disk in own))
        assert all(node.is_running for node in nodes)
    finally:
        load.stop()
    check_digests(nodes)
    for node, disk in zip(nodes, own):
        node.process.kill()
        node.wait()
    again = [start(processes, disk, port=node.port) for node, disk in zip(nodes, own)]
    for node in again:
        node.wait_until_running()
    check_values(again[-1], load.acknowledged)


STALLING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int descriptor) {
    const char *gate = getenv("STALL_WHILE");
    const char *failing = getenv("FAIL_WHILE");
    while (gate && access(gate, F_OK) == 0) usleep(10000);
    if (failing && access(failing, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(descriptor);
}
"""


@pytest.fixture
def library(tmp_path):
    compiler = shutil.which("clang") or shutil.which("cc")
    assert compiler, "no C compiler: the Swift toolchain's clang has to be on the PATH"
    source, built = tmp_path / "stall.c", tmp_path / "stall.so"
    source.write_text(STALLING)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True, timeout=300)
    return built


def test_a_failing_disk_ends_the_node(processes, library, tmp_path):
    gate = tmp_path / "fail"
    node = processes.node(
        "--bootstrap", prefix=("env", f"LD_PRELOAD={library}", f"FAIL_WHILE={gate}")).wait_until_running()
    values = {f"key-{number}": b"%d" % number for number in range(10)}
    for key, value in values.items():
        node.variables.Put(pb.PutRequest(key=key, value=value), timeout=60)
    gate.touch()
    failure(lambda: node.variables.Put(pb.PutRequest(key="lost", value=b"v"), timeout=60))
    # By itself, and without another attempt: what is on the disk is not known any more.
    assert node.wait() == 1
    assert "✗ cannot synchronize " in node.err.text and ".log: i/o error" in node.err.text, node.err.text
    assert "start the node again: it resumes from what it acknowledged" in node.err.text
    again = processes.node(port=node.port).wait_until_running()
    check_values(again, values)


def test_slow_disk_of_the_leader(processes, library, tmp_path):
    gates = [tmp_path / f"stall-{number}" for number in range(3)]

    def prefix(number):
        return ("env", f"LD_PRELOAD={library}", f"STALL_WHILE={gates[number]}")

    first = processes.node("--bootstrap", prefix=prefix(0)).wait_until_running()
    nodes = [first] + [
        processes.node(
            "--peers", first.address, "--discovery-timeout", 300, prefix=prefix(number)).wait_until_running()
        for number in (1, 2)
    ]
    voters(nodes)
    load = Load(nodes)
    try:
        load.goes_on()
        leader, others = leader_and_followers(nodes)
        slow = leader.status().node_id
        gate = gates[nodes.index(leader)]
        gate.touch()
        wait_for(
            "another node leads",
            lambda: all(g.leader_node_id not in (0, slow) for g in others[0].status().groups))
        for number in range(20):
            put_at_last(others[number % 2], f"meanwhile-{number}")
        assert leader.is_running
        gate.unlink()
        load.goes_on()
    finally:
        for gate in gates:
            gate.unlink(missing_ok=True)
        load.stop()
    check_digests(nodes)
    check_values(nodes[0], load.acknowledged)
