"""Damaged data: `raftoral log`, refusals that name file and offset, and --repair-from-peers."""

import re

import raftoral_pb2 as pb
from nodes import leader_and_followers, wait_for, wait_for_voters


def put(node, key, value=b"v" * 500):
    return node.variables.Put(pb.PutRequest(key=key, value=value, request_id=key), timeout=60).revision


def stop(node):
    node.process.terminate()
    assert node.wait() == 0


def segment(processes, node):
    return sorted((processes.directory / data(node) / "log").iterdir())[0]


def data(node):
    return f"raftoral-data/127.0.0.1-{node.port}"


def flip(path, offset):
    bytes_ = bytearray(path.read_bytes())
    bytes_[offset] ^= 0x10
    path.write_bytes(bytes_)


def in_an_entry(path):
    """The place of a byte that somebody wrote. Between batches there are bytes that nothing reads."""
    return path.read_bytes().index(b"key-")


def refused_start(processes, node, *flags):
    """Standard error of a start that fails."""
    again = processes.node(*flags, port=node.port)
    assert again.wait() == 1
    return again.err.text


def test_log_verify_and_dump(processes):
    node = processes.node("--bootstrap").wait_until_running()
    for number in range(20):
        put(node, f"key-{number}")
    code, _, err = processes.run("log", "verify", data(node))
    assert code == 1 and "in use by another process" in err
    stop(node)
    code, out, err = processes.run("log", "verify", data(node))
    assert (code, err) == (0, "")
    assert re.search(r"^✓ .*/log is whole\n  1 segments, \d+ batches, \d+ records, \d+ entries, \d+ bytes\n", out)
    assert out.endswith("  the node was stopped in order\n")
    # The directory of the log itself will do, too.
    assert processes.run("log", "verify", f"{data(node)}/log")[0] == 0
    code, out, err = processes.run("log", "dump", data(node))
    assert (code, err) == (0, "")
    assert out.count("  group 1  entry ") >= 20 and "hard state: term " in out
    lines = out.splitlines()
    assert lines[0].endswith("/log/0000000000000001.log") and all(re.match(r"  \d+  group ", line) for line in lines[1:])

    flip(segment(processes, node), in_an_entry(segment(processes, node)))
    code, out, err = processes.run("log", "verify", data(node))
    assert code == 1 and out == ""
    assert re.match(r"✗ \S+/log/0000000000000001\.log is damaged at byte \d+: ", err)
    code, out, err = processes.run("log", "dump", data(node))
    assert code == 1 and "group 1  entry" in out and "is damaged at byte" in err
    code, _, err = processes.run("log", "verify", processes.directory)
    assert code == 1 and "holds no log" in err


def test_repair_from_peers(processes):
    nodes = processes.cluster(3)
    keys = [f"key-{number}" for number in range(50)]
    for key in keys:
        put(nodes[0], key)
    _, (victim, _) = leader_and_followers(nodes)
    others = [node for node in nodes if node is not victim]
    old = victim.status().node_id
    victim.process.kill()
    victim.wait()
    damaged = segment(processes, victim)
    flip(damaged, in_an_entry(damaged))
    before = damaged.read_bytes()

    error = refused_start(processes, victim)
    assert re.match(r"✗ \S+/log/0000000000000001\.log is damaged at byte \d+: ", error), error
    assert "--repair-from-peers" in error
    peers = ",".join(node.address for node in others)
    # Naming peers is not asking for it.
    assert "is damaged at byte" in refused_start(processes, victim, "--peers", peers)
    assert damaged.read_bytes() == before

    repaired = processes.node(
        "--repair-from-peers", "--peers", peers, "--discovery-timeout", 300, port=victim.port).wait_until_running()
    assert "Fetching the data again from the cluster..." in repaired.out.text
    assert f"✓ Node {old} has left the cluster: dropping its damaged data" in repaired.out.text
    new = repaired.status().node_id
    assert new > 3
    wait_for_members(others[0], {node.status().node_id for node in others} | {new})
    wait_for_voters(others[0], 3)
    put(repaired, "after")
    for key in [*keys, "after"]:
        assert repaired.variables.Get(pb.GetRequest(key=key), timeout=60).found
    # It starts again as any other node, and then the flag has nothing to do.
    stop(repaired)
    again = processes.node(
        "--repair-from-peers", "--peers", peers, port=victim.port).wait_until_running()
    assert again.status().node_id == new and "Fetching" not in again.out.text


def wait_for_members(node, ids):
    def are_members():
        status = node.status()
        return {m.node_id for m in status.members} == ids and all(
            {r.node_id for r in group.replicas} == ids for group in status.groups)

    wait_for(f"the members are {ids}", are_members)


def test_repair_of_a_damaged_identity(processes):
    nodes = processes.cluster(3)
    put(nodes[0], "key")
    _, (victim, _) = leader_and_followers(nodes)
    others = [node for node in nodes if node is not victim]
    old = victim.status().node_id
    victim.process.kill()
    victim.wait()
    flip(processes.directory / data(victim) / "identity", 20)
    assert re.match(r"✗ \S+/identity is damaged at byte \d+: ", refused_start(processes, victim))
    repaired = processes.node(
        "--repair-from-peers", "--peers", others[0].address, "--discovery-timeout", 300, port=victim.port
    ).wait_until_running()
    assert f"✓ Node {old} has left the cluster" in repaired.out.text
    wait_for_members(others[0], {node.status().node_id for node in others} | {repaired.status().node_id})
    assert repaired.variables.Get(pb.GetRequest(key="key"), timeout=60).found


def test_no_repair_without_a_majority(processes):
    """Of two, the other one alone cannot let a node go; what is there is kept."""
    nodes = processes.cluster(2)
    for number in range(20):
        put(nodes[0], f"key-{number}")
    _, (victim,) = leader_and_followers(nodes)
    victim.process.kill()
    victim.wait()
    other = next(node for node in nodes if node is not victim)
    damaged = segment(processes, victim)
    flip(damaged, in_an_entry(damaged))
    before = damaged.read_bytes()
    error = refused_start(
        processes, victim, "--repair-from-peers", "--peers", other.address, "--discovery-timeout", 3)
    assert "Cannot fetch the data again from the cluster: " in error and "Nothing was dropped." in error, error
    assert damaged.read_bytes() == before
    assert other.is_running
