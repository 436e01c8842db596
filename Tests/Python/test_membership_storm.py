"""Members come, go, die, are replaced and move while clients write: nothing acknowledged is lost, and nothing gets stuck.

RAFTORAL_STORM_SEED repeats a run's choices (not its timing); RAFTORAL_STORM_ROUNDS makes it longer: `make storm`.
"""

import os
import pathlib
import random
import signal
import threading
import time

import grpc
import raftoral_pb2 as pb
from nodes import PATIENCE, wait_for

IS_LONG = "RAFTORAL_STORM_ROUNDS" in os.environ
ROUNDS = int(os.environ.get("RAFTORAL_STORM_ROUNDS", "8"))
# Of these eight, one of each kind.
SHORT_SEED = 77
SEED = int(os.environ.get("RAFTORAL_STORM_SEED", random.SystemRandom().randrange(1, 1 << 32) if IS_LONG else SHORT_SEED))
VOTERS = 5


class Writer(threading.Thread):
    """Writes one value after the other, each until some node acknowledges it, and remembers the newest of each key."""

    def __init__(self, number, storm):
        super().__init__(daemon=True)
        self.number, self.storm = number, storm
        self.acknowledged, self.count, self.is_over = {}, 0, False

    def run(self):
        choice = random.Random(self.number)
        while not self.is_over:
            key, value = f"w{self.number}-{self.count % 20}", str(self.count)
            request = pb.PutRequest(key=key, value=value.encode(), request_id=f"{self.number}-{value}")
            while True:
                try:
                    choice.choice(self.storm.nodes).variables.Put(request, timeout=10)
                    break
                except (grpc.RpcError, ValueError):
                    # Not acknowledged (or the channel of a node that has gone): the same again, anywhere.
                    self.storm.pause.wait(0.05)
            self.acknowledged[key] = value
            self.count += 1


class Storm:
    def __init__(self, processes, choice):
        self.processes, self.choice = processes, choice
        self.nodes = processes.cluster(3)
        self.pause = threading.Event()
        self.directories = {n.port: data_dir(processes, n) for n in self.nodes}

    def command(self, *words):
        addresses = ",".join(n.address for n in self.nodes if n.is_running)
        code, out, err = self.processes.run(
            "cluster", *words, "--address", addresses, "--timeout", PATIENCE, within=6 * PATIENCE
        )
        assert code == 0, f"{words}: {out}{err}"

    def start(self, *flags, directory=None):
        peers = ",".join(n.address for n in self.nodes)
        where = ("--data-dir", directory) if directory else ()
        node = self.processes.node(*flags, *where, "--peers", peers, "--discovery-timeout", 300)
        self.directories[node.port] = directory or data_dir(self.processes, node)
        return node.wait_until_running()

    def settle(self):
        """Every group, as every node sees it, consists of the nodes that are there."""

        def settled():
            try:
                statuses = [n.status() for n in self.nodes]
            except grpc.RpcError:
                return False
            ids = sorted(s.node_id for s in statuses)
            return all(
                sorted(r.node_id for r in g.replicas) == ids
                and sum(r.voter for r in g.replicas) == min(len(ids), VOTERS)
                and g.leader_node_id in ids
                for s in statuses
                for g in s.groups
            ) and all({m.node_id: m.address for m in s.members} == self.addresses(statuses) for s in statuses)

        wait_for("every group consists of the nodes that are there", settled, within=4 * PATIENCE)

    def addresses(self, statuses):
        return {s.node_id: n.address for s, n in zip(statuses, self.nodes)}

    # What may happen

    def add(self):
        if len(self.nodes) < 6:
            self.nodes = self.nodes + [self.start()]

    def remove(self):
        victim = self.choice.choice(self.nodes)
        number = victim.status().node_id
        self.nodes = [n for n in self.nodes if n is not victim]
        self.command("remove", number)
        wait_for("the removed node stops", lambda: not victim.is_running)

    def replace(self):
        victim = self.choice.choice(self.nodes)
        number = victim.status().node_id
        victim.process.kill()
        victim.wait()
        self.nodes = [n for n in self.nodes if n is not victim]
        fresh = self.start()
        self.nodes = self.nodes + [fresh]
        self.command("replace", number, fresh.status().node_id)

    def transfer(self):
        group = self.choice.choice([0, 1])
        voters = [r.node_id for r in self.nodes[0].group(group).replicas if r.voter]
        try:
            request = pb.TransferLeaderRequest(group_id=group, node_id=self.choice.choice(voters))
            self.choice.choice(self.nodes).cluster.TransferLeader(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE), error

    def move(self):
        victim = self.choice.choice(self.nodes)
        victim.send(signal.SIGTERM)
        victim.wait()
        self.nodes = [n for n in self.nodes if n is not victim]
        self.nodes = self.nodes + [self.start(directory=self.directories[victim.port])]

    def crash(self):
        victim = self.choice.choice(self.nodes)
        victim.process.kill()
        victim.wait()
        again = self.processes.node("--data-dir", self.directories[victim.port], port=victim.port)
        self.nodes = [again if n is victim else n for n in self.nodes]
        again.wait_until_running()


def data_dir(processes, node):
    return pathlib.Path(processes.directory) / "raftoral-data" / f"127.0.0.1-{node.port}"


def test_membership_storm(processes, capsys):
    choice = random.Random(SEED)
    storm = Storm(processes, choice)
    writers = [Writer(number, storm) for number in range(3)]
    for writer in writers:
        writer.start()
    done = []

    def tell(line):
        if IS_LONG:
            with capsys.disabled():
                print(line, flush=True)

    tell(f"\nseed {SEED}\n{'change':>6}  {'':8}  {'nodes':>5}  {'puts':>7}  {'seconds':>7}")
    try:
        for number in range(ROUNDS):
            event = choice.choice(
                [storm.add, storm.remove, storm.replace, storm.replace, storm.transfer, storm.move, storm.crash]
            )
            if event == storm.remove and len(storm.nodes) < 4:
                event = storm.add
            done.append(event.__name__)
            before, began = [w.count for w in writers], time.monotonic()
            event()
            storm.settle()
            seconds = time.monotonic() - began
            puts = sum(w.count for w in writers)
            tell(f"{number + 1:>6}  {event.__name__:8}  {len(storm.nodes):>5}  {puts:>7}  {seconds:>7.1f}")
            wait_for(
                f"everybody writes on (seed {SEED}, after {done})",
                lambda: all(w.count > b + 5 for w, b in zip(writers, before)),
            )
    finally:
        for writer in writers:
            writer.is_over = True
    for writer in writers:
        writer.join(4 * PATIENCE)
        assert not writer.is_alive(), f"seed {SEED}: a write is stuck after {done}"
    for node in storm.nodes:
        for writer in writers:
            for key, value in writer.acknowledged.items():
                found = node.variables.Get(pb.GetRequest(key=key), timeout=PATIENCE)
                assert found.value.decode() == value, f"seed {SEED}, after {done}: {key}"
    # Every put takes the next revision of the cluster: each has been carried out, once.
    count = sum(w.count for w in writers)
    last = storm.nodes[0].variables.Put(pb.PutRequest(key="last", value=b"", request_id="last"), timeout=PATIENCE)
    assert last.revision == count + 1, f"seed {SEED}, after {done}"
    tell(f"{count} puts, each there and carried out once")
