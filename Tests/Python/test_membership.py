"""What operators do to the members: replace a dead one, move one to another address, remove one too many."""

import pathlib
import signal

import raftoral_pb2 as pb
from nodes import PATIENCE, failure, free_port, leader_and_followers, wait_for, wait_for_voters


def put(node, value):
    return node.variables.Put(pb.PutRequest(key="k", value=value, request_id=value.decode()), timeout=PATIENCE)


def get(node):
    return node.variables.Get(pb.GetRequest(key="k"), timeout=PATIENCE).value


def cluster(processes, nodes, *command):
    """A cluster command, given all nodes that run."""
    addresses = ",".join(n.address for n in nodes if n.is_running)
    return processes.run(
        "cluster", *command, "--address", addresses, "--timeout", PATIENCE, within=4 * PATIENCE
    )


def replicas(node):
    return [sorted((r.node_id, r.voter) for r in g.replicas) for g in node.status().groups]


def test_a_dead_node_is_replaced(processes):
    nodes = processes.cluster(3)
    _, followers = leader_and_followers(nodes)
    dead = followers[0]
    dead_id = dead.status().node_id
    rest = [n for n in nodes if n is not dead]
    put(rest[0], b"before")
    dead.end()
    fresh = processes.node("--peers", rest[0].address, "--discovery-timeout", 300).wait_until_running()
    code, out, err = cluster(processes, rest, "replace", dead_id, fresh.status().node_id)
    assert code == 0, out + err
    assert f"node {fresh.status().node_id} has caught up" in out and f"node {dead_id} is removed" in out
    # The command waited: nobody counts the dead one any more.
    leader, _ = leader_and_followers(rest + [fresh])
    wait_for("all three vote", lambda: all(len(g) == 3 and all(v for _, v in g) for g in replicas(leader)))
    assert all(dead_id not in dict(group) for group in replicas(leader))
    rest[0].end()
    put(fresh, b"after")
    assert get(rest[1]) == b"after"


def test_a_removal_is_awaited_and_can_be_repeated(processes):
    nodes = processes.cluster(3)
    _, followers = leader_and_followers(nodes)
    gone = followers[0]
    gone_id = gone.status().node_id
    rest = [n for n in nodes if n is not gone]
    for _ in range(2):
        code, out, err = cluster(processes, rest, "remove", gone_id)
        assert code == 0 and f"node {gone_id} is removed" in out, out + err
        leader, _ = leader_and_followers(rest)
        assert all(gone_id not in dict(group) for group in replicas(leader))
    wait_for("the removed node stops", lambda: not gone.is_running)
    code, out, err = cluster(processes, rest, "members")
    assert code == 0 and "leader" in out and gone.address not in out, out + err
    code, _, err = cluster(processes, rest, "remove", 77)
    assert code == 1 and "there is no node 77" in err


def test_nobody_is_removed_whom_the_quorum_needs(processes):
    nodes = processes.cluster(3)
    leader, followers = leader_and_followers(nodes, group=0)
    dead, alive = followers
    alive_id, dead_id = alive.status().node_id, dead.status().node_id
    dead.end()
    wait_for(
        "the leader misses it",
        lambda: any(r.node_id == dead_id and r.last_contact_milliseconds > 2000 for r in leader.group(0).replicas),
    )
    # Asked through the one that is to go, which does not lead.
    refused = failure(lambda: alive.cluster.Remove(pb.RemoveRequest(node_id=alive_id), timeout=PATIENCE))
    assert refused.code().name == "FAILED_PRECONDITION" and "1 living voters of 2" in refused.details()
    put(leader, b"still")
    # Forced, it is noted, and not done before the groups can do without it: the dead one returns.
    leader.cluster.Remove(pb.RemoveRequest(node_id=alive_id, force=True), timeout=PATIENCE)
    put(leader, b"still-2")
    assert alive.is_running and all(alive_id in dict(group) for group in replicas(leader))
    _, out, _ = cluster(processes, [leader], "members")
    assert f"{alive_id}   removed          -      voter" in out, out
    processes.node("--data-dir", data_dir(processes, dead), port=dead.port).wait_until_running()
    wait_for("it stops", lambda: not alive.is_running)
    assert get(leader) == b"still-2"


def data_dir(processes, node):
    return pathlib.Path(processes.directory) / "raftoral-data" / f"127.0.0.1-{node.port}"


def test_nodes_move_to_other_addresses(processes):
    nodes = processes.cluster(3)
    put(nodes[0], b"before")
    leader, followers = leader_and_followers(nodes)
    # A follower, then the leader.
    for old in [followers[0], leader]:
        others = [n for n in nodes if n is not old]
        moved_id = old.status().node_id
        old.send(signal.SIGTERM)
        old.wait()
        moved = processes.node("--data-dir", data_dir(processes, old)).wait_until_running()
        nodes = others + [moved]
        wait_for(
            "all know its new address",
            lambda: all({m.node_id: m.address for m in n.status().members}[moved_id] == moved.address for n in nodes),
        )
    others[0].end()
    put(nodes[-1], b"after")
    assert get([n for n in nodes if n.is_running][0]) == b"after"


def test_a_learner_moves_to_another_address(processes):
    nodes = processes.cluster(5)
    sixth = processes.node("--peers", nodes[0].address).wait_until_running()
    sixth_id = sixth.status().node_id
    wait_for("it has come", lambda: {m.node_id: m.protocol_level for m in nodes[0].status().members}[sixth_id] > 0)
    sixth.send(signal.SIGTERM)
    sixth.wait()
    # Nobody asks a learner for its vote, and it asks nobody: it has to say where it is.
    moved = processes.node("--data-dir", data_dir(processes, sixth)).wait_until_running()
    wait_for(
        "all know its new address",
        lambda: all({m.node_id: m.address for m in n.status().members}[sixth_id] == moved.address for n in nodes),
    )
    put(nodes[0], b"v")
    assert get(moved) == b"v"


def test_the_same_joiner_gets_the_same_id(processes):
    first = processes.node("--bootstrap").wait_until_running()
    level = first.status().protocol_level
    request = pb.JoinRequest(address=f"127.0.0.1:{free_port()}", request_id="token", protocol_level=level)
    ids = {first.cluster.Join(request, timeout=PATIENCE).node_id for _ in range(3)}
    assert ids == {2} and len(first.status().members) == 2
    # It never came, and holds nothing down: another joins and votes.
    second = processes.node("--peers", first.address).wait_until_running()
    assert second.status().node_id == 3
    wait_for(
        "both vote",
        lambda: all({i for i, v in group if v} == {1, 3} for group in replicas(first)),
    )
    assert first.status().protocol_level >= 1
