"""Removing nodes: whoever stays must be able to go on, whichever node went and whoever led."""

import pytest
import raftoral_pb2 as pb
from nodes import leader_and_followers, wait_for


def put(node, value):
    return node.variables.Put(pb.PutRequest(key="k", value=value, request_id=value.decode()), timeout=60)


@pytest.mark.parametrize("victim", ["leader", "follower"])
@pytest.mark.parametrize("count", [2, 3])
def test_whoever_stays_goes_on(processes, victim, count):
    nodes = processes.cluster(count)
    leader, followers = leader_and_followers(nodes)
    gone = leader if victim == "leader" else followers[0]
    rest = [n for n in nodes if n is not gone]
    put(rest[0], b"before")
    rest[0].cluster.Remove(pb.RemoveRequest(node_id=gone.status().node_id), timeout=60)
    wait_for("the removed node stops", lambda: not gone.is_running)
    assert gone.wait() == 1 and "removed" in gone.err.text
    put(rest[0], b"after")
    found = rest[-1].variables.Get(pb.GetRequest(key="k"), timeout=60)
    assert found.value == b"after"
    wait_for("it is in no group", lambda: all(len(g.replicas) == count - 1 for g in rest[0].status().groups))
