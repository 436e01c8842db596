"""Backup of a running cluster, and a new cluster of another size out of it."""

import sqlite3
import threading

import grpc
import raftoral_pb2 as pb
from nodes import fibonacci, free_port, json_payload, leader_and_followers, wait_for, wait_for_voters


def put(node, key, value, request=None):
    request = pb.PutRequest(key=key, value=value.encode(), request_id=request or f"{key}={value}")
    return node.variables.Put(request, timeout=60).revision


def get(node, key):
    return node.variables.Get(pb.GetRequest(key=key), timeout=60)


def start(node, workflow, n, delay):
    return node.workflows.StartWorkflow(
        pb.StartWorkflowRequest(
            workflow_id=workflow,
            workflow_type="fibonacci",
            input=json_payload(f'{{"n":{n},"stepDelayMilliseconds":{delay}}}'),
            request_id=workflow,
        ),
        timeout=60,
    ).run_id


def result(node, run_id):
    ended = node.workflows.GetWorkflowResult(pb.GetWorkflowResultRequest(run_id=run_id), timeout=120)
    assert ended.status == pb.COMPLETED, ended
    return ended.result.data.decode()


class Load:
    """Puts into a few variables, one after the other, and remembers what was acknowledged."""

    def __init__(self, nodes):
        self.nodes, self.acknowledged, self.tried, self._ends = nodes, {}, {}, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._ends.is_set():
            number += 1
            key = f"load-{number % 7}"
            self.tried[key] = number
            try:
                put(self.nodes[number % len(self.nodes)], key, str(number))
                self.acknowledged[key] = number
            except grpc.RpcError:
                pass

    def wait_for(self, count):
        wait_for("the load goes on", lambda: sum(self.acknowledged.values()) > count)

    def end(self):
        self._ends.set()
        self._thread.join(120)


def backup(processes, load, node, name):
    """Takes a backup under load; checks its rows against what was acknowledged before and tried after."""
    load.wait_for(20)
    before = dict(load.acknowledged)
    code, out, err = processes.run("backup", "--out", name, "--address", node.address)
    assert code == 0 and out.startswith(f"✓ {name}: "), err
    after = dict(load.tried)
    with sqlite3.connect(processes.directory / name) as file:
        rows = {key: int(value) for key, value in file.execute("SELECT key, value FROM variables WHERE key LIKE 'load-%'")}
    for key, number in before.items():
        assert number <= rows[key] <= after[key], (key, before, rows, after)
    return rows


def restore(processes, name):
    """A running node of a new cluster."""
    port = free_port()
    directory = f"restored-{port}"
    flags = ("--from", name, "--data-dir", directory, "--address", f"127.0.0.1:{port}")
    code, out, err = processes.run("restore", *flags)
    assert (code, err) == (0, "") and "of the new cluster" in out
    # Never over what a node has.
    code, _, err = processes.run("restore", *flags)
    assert code == 1 and "holds node" in err
    return processes.node("--data-dir", directory, port=port).wait_until_running()


def same(node, rows):
    for key, number in rows.items():
        assert get(node, key).value == str(number).encode()


def test_three_to_one_to_five_under_load(processes):
    nodes = processes.cluster(3)
    finished = [start(nodes[0], f"done-{number}", 20, 0) for number in range(5)]
    for run in finished:
        assert f'"result":{fibonacci(20)}' in result(nodes[1], run)
    running = [start(nodes[0], f"running-{number}", 40, 250) for number in range(5)]
    revision = put(nodes[0], "fixed", "value", request="fixed-request")
    load = Load(nodes)
    _, (follower, _) = leader_and_followers(nodes)
    rows = backup(processes, load, follower, "one.sqlite")
    load.end()
    assert processes.run("backup", "--out", "one.sqlite", "--address", nodes[0].address)[0] == 1
    with sqlite3.connect(processes.directory / "one.sqlite") as file:
        counted = dict(file.execute("SELECT status, count(*) FROM workflows GROUP BY status"))
        assert counted == {"completed": 5, "running": 5}
        steps = file.execute("SELECT count(*) FROM steps WHERE workflow_id LIKE 'done-%'").fetchone()[0]
        assert steps == 100
    for node in nodes:
        node.end()

    one = restore(processes, "one.sqlite")
    status = one.status()
    assert (status.node_id, len(status.members)) == (4, 1)
    same(one, rows)
    assert get(one, "fixed").value == b"value"
    # Requests of the old cluster are recognised: the same answer, nothing happens twice.
    assert put(one, "fixed", "another", request="fixed-request") == revision
    assert get(one, "fixed").value == b"value"
    for run in finished:
        assert f'"result":{fibonacci(20)}' in result(one, run)
    for run in running:
        assert f'"result":{fibonacci(40)}' in result(one, run)

    load = Load([one])
    rows = backup(processes, load, one, "two.sqlite")
    load.end()
    one.end()
    first = restore(processes, "two.sqlite")
    five = [first] + [processes.node("--peers", first.address, "--discovery-timeout", 300) for _ in range(4)]
    for node in five:
        node.wait_until_running()
    wait_for_voters(first, 5)
    for node in five:
        same(node, rows)
        for run in finished + running:
            assert '"result"' in result(node, run)
    put(five[3], "after", "it")
    assert get(five[1], "after").value == b"it"


def test_what_cannot_be_restored(processes):
    node = processes.node("--bootstrap").wait_until_running()
    put(node, "key", "value")
    assert processes.run("backup", "--out", "b.sqlite", "--address", node.address)[0] == 0
    flags = ("--data-dir", "restored", "--address", "127.0.0.1:1")
    content = (processes.directory / "b.sqlite").read_bytes()
    assert len(content) % 4096 == 0

    def refused(name, bytes_):
        (processes.directory / name).write_bytes(bytes_)
        code, out, err = processes.run("restore", "--from", name, *flags)
        assert (code, out) == (1, ""), err
        return err

    for page in range(len(content) // 4096):
        flipped = bytearray(content)
        flipped[page * 4096 + 4088] ^= 1
        assert f"Cannot restore flipped-{page}" in refused(f"flipped-{page}", flipped)
    assert "Cannot restore short" in refused("short", content[:-4096])
    assert "Cannot restore text" in refused("text", b"not a database" * 1000)
    with sqlite3.connect(processes.directory / "b.sqlite") as file:
        file.execute("UPDATE backup SET format = 2")
    file.close()
    # Whoever writes to it with another program takes the checksums off.
    assert "is damaged" in refused("changed", (processes.directory / "b.sqlite").read_bytes())
    (processes.directory / "b.sqlite").write_bytes(content)
    code, _, err = processes.run("restore", "--from", "b.sqlite", *flags)
    assert code == 0, err
