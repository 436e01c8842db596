"""kill -9 of random nodes under a load of workflows and variables: nothing that was acknowledged is lost, no step is
recorded and no put carried out twice, and all nodes have applied the same.

A killed process leaves to its files what it has written, synchronized or not: losses of power are for the simulator and
for the fake disks of `NodeCrashTests`.

RAFTORAL_SEED repeats a run's choices (not its timing); RAFTORAL_KILL_ROUNDS makes it longer or shorter, and tells how far
it is: `make kills` does 200 rounds with one node and 200 with three.
"""

import collections
import os
import random
import threading
import time

import grpc
import pytest
import raftoral_pb2 as pb
import raftoral_pb2_grpc as rpc
from nodes import fibonacci, json_payload, wait_for

# By the count of nodes.
ROUNDS = {3: 20, 1: 10}
IS_LONG = "RAFTORAL_KILL_ROUNDS" in os.environ
if IS_LONG:
    ROUNDS = dict.fromkeys(ROUNDS, int(os.environ["RAFTORAL_KILL_ROUNDS"]))
WORKERS = 6
# What may go wrong with a call when a node dies under it.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Client:
    """Calls to any of the nodes: a failed one is repeated elsewhere."""

    def __init__(self, addresses, chance):
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 300)]
        self.channels = [grpc.insecure_channel(address, options=options) for address in addresses]
        self.workflows = [rpc.WorkflowServiceStub(channel) for channel in self.channels]
        self.variables = [rpc.VariableServiceStub(channel) for channel in self.channels]
        self.chance = chance

    def ask(self, method, request, timeout, patience):
        stubs = self.variables if method in ("Put", "Get") else self.workflows
        deadline = time.monotonic() + patience
        while True:
            try:
                return getattr(self.chance.choice(stubs), method)(request, timeout=timeout)
            except grpc.RpcError as error:
                if error.code() not in PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def close(self):
        for channel in self.channels:
            channel.close()


class Load:
    """Starts workflows and puts variables through random nodes until told to stop."""

    def __init__(self, addresses, chance):
        self.acknowledged, self.failures = {}, []
        # Puts that were acknowledged, the newest value of each key, and the revisions.
        self.put_count, self.values, self.revisions = 0, {}, set()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(number, addresses, random.Random(chance.random())))
            for number in range(WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number, addresses, chance):
        client, count = Client(addresses, chance), 0
        try:
            while not self._stopping.is_set():
                count += 1
                name, n = f"load-{number}-{count}", chance.randint(1, 25)
                request = pb.StartWorkflowRequest(
                    workflow_id=name,
                    workflow_type="fibonacci",
                    input=json_payload(f'{{"n":{n},"stepDelayMilliseconds":{chance.randint(0, 60)}}}'),
                    request_id=f"request-{name}",
                )
                answer = client.ask("StartWorkflow", request, timeout=10, patience=900)
                assert answer.workflow_id == name
                with self._lock:
                    self.acknowledged[name] = (n, answer.run_id)
                for _ in range(chance.randint(0, 4)):
                    self._put(client, f"key-{number}-{chance.randint(0, 9)}")
                time.sleep(chance.uniform(0, 0.2))
        except Exception as error:  # noqa: BLE001 — told to the test's own thread
            self.failures.append(error)
        finally:
            client.close()

    def _put(self, client, key):
        value = os.urandom(8).hex()
        request = pb.PutRequest(key=key, value=value.encode(), request_id=value)
        revision = client.ask("Put", request, timeout=10, patience=900).revision
        with self._lock:
            self.put_count += 1
            self.values[key] = value
            self.revisions.add(revision)

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("count", ROUNDS)
def test_kills(processes, capsys, count):
    rounds = ROUNDS[count]
    seed = int(os.environ.get("RAFTORAL_SEED", random.SystemRandom().randrange(1 << 32) if IS_LONG else 1))
    with capsys.disabled():
        print(f"\n{rounds} rounds of kill -9 on {count}, seed {seed}: ", end="", flush=True)
    chance = random.Random(seed)
    nodes = processes.cluster(count)
    addresses = [node.address for node in nodes]
    load = Load(addresses, chance)
    began = time.monotonic()

    def tell(done, end):
        with capsys.disabled():
            print(
                f"{done} kills, {len(load.acknowledged)} workflows and {load.put_count} puts acknowledged in "
                f"{time.monotonic() - began:.0f} s", end=end, flush=True)

    try:
        for done in range(rounds):
            if IS_LONG and done % 10 == 0:
                tell(done, "\n")
            time.sleep(chance.uniform(0.2, 3.0))
            place = chance.randrange(count)
            nodes[place].process.kill()
            nodes[place].wait()
            time.sleep(chance.uniform(0, 3.0))
            # Not waited for until it has caught up: the next to die may be one that it needs.
            nodes[place] = processes.node(port=nodes[place].port).wait_until_running()
            assert not load.failures, load.failures
    finally:
        load.stop()
    assert not load.failures, load.failures
    tell(rounds, " ")
    assert load.acknowledged and load.values, "a test in which nothing was acknowledged would have shown nothing"
    # A test in which no run changed hands would have shown nothing.
    assert check_results(load.acknowledged, addresses, chance) > 0
    check_values(load, addresses, chance)
    check_digests(nodes)


def check_results(acknowledged, addresses, chance):
    """How many of the runs changed hands."""
    client, changed_count = Client(addresses, chance), 0
    try:
        for name, (n, run) in acknowledged.items():
            which = {"workflow_id": name, "run_id": run}
            answer = client.ask("GetWorkflowResult", pb.GetWorkflowResultRequest(**which), timeout=60, patience=900)
            assert answer.status == pb.COMPLETED, (name, answer)
            assert answer.result.data == b'{"result":%d}' % fibonacci(n), (name, n, answer)
            described = client.ask("DescribeWorkflow", pb.DescribeWorkflowRequest(**which), timeout=60, patience=900)
            steps = described.checkpoints
            assert [step.position for step in steps] == list(range(n)), name
            assert [step.key for step in steps] == [f"fibonacci-{i}" for i in range(1, n + 1)], name
            assert [int(step.value.data) for step in steps] == [fibonacci(i) for i in range(1, n + 1)], name
            assert len({step.log_index for step in steps}) == n, name
            changed_count += len({step.epoch for step in steps}) > 1
        return changed_count
    finally:
        client.close()


def check_values(load, addresses, chance):
    client = Client(addresses, chance)
    try:
        for key, value in load.values.items():
            found = client.ask("Get", pb.GetRequest(key=key), timeout=60, patience=900)
            assert found.value.decode() == value, key
        # Every put takes the next revision of the cluster: each has been carried out, once.
        assert load.revisions == set(range(1, load.put_count + 1))
        last = client.ask("Put", pb.PutRequest(key="last", value=b"", request_id="last"), timeout=10, patience=900)
        assert last.revision == load.put_count + 1
    finally:
        client.close()


def check_digests(nodes):
    def applied():
        groups = collections.defaultdict(dict)
        for node in nodes:
            for group in node.status().groups:
                groups[group.group_id][node.address] = (group.applied_index, group.applied_digest)
        same = all(len(seen) == len(nodes) and len({index for index, _ in seen.values()}) == 1 for seen in groups.values())
        return groups if same and len(groups) == 2 else None

    for group, seen in wait_for("all nodes have applied the same entries", applied).items():
        assert len(set(seen.values())) == 1, (group, seen)
