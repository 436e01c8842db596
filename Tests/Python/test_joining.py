"""Nodes that come at the same moment, as in a compose file."""

import re

import raftoral_pb2 as pb
from nodes import free_port, wait_for, wait_for_voters


def test_four_nodes_at_once(processes):
    ports = [free_port() for _ in range(4)]
    peers = [",".join(f"127.0.0.1:{p}" for p in ports if p != port) for port in ports]
    # The joiners first, so that they find nobody to begin with.
    joiners = [
        processes.node("--peers", others, "--discovery-timeout", 300, port=port)
        for port, others in zip(ports[1:], peers[1:])
    ]
    nodes = [processes.node("--bootstrap", port=ports[0])] + joiners
    for node in nodes:
        node.wait_until_running()
    ids = [int(re.search(r"🎉 Node (\d+) is running!", node.out.text).group(1)) for node in nodes]
    assert ids[0] == 1 and sorted(ids) == [1, 2, 3, 4]
    wait_for_voters(nodes[0], 4)
    assert {node.status().cluster_id for node in nodes} == {nodes[0].status().cluster_id}
    assert all({m.node_id for m in node.status().members} == {1, 2, 3, 4} for node in nodes)
    revision = nodes[3].variables.Put(pb.PutRequest(key="k", value=b"v"), timeout=60).revision
    assert all(n.variables.Get(pb.GetRequest(key="k"), timeout=60).revision == revision for n in nodes)


def test_joining_through_a_follower(processes):
    first, second = processes.cluster(2)
    third = processes.node("--peers", second.address).wait_until_running()
    assert third.status().node_id == 3
    wait_for_voters(first, 3)


def test_sixth_node_stays_a_learner(processes):
    nodes = processes.cluster(5)
    sixth = processes.node("--peers", nodes[4].address).wait_until_running()
    sixth.variables.Put(pb.PutRequest(key="k", value=b"v"), timeout=60)
    wait_for(
        "the sixth is a learner with everything",
        lambda: sixth.variables.Get(pb.GetRequest(key="k", stale=True), timeout=60).found
        and sixth.raft.Discover(pb.DiscoveryRequest(), timeout=60).role == pb.LEARNER,
    )
    assert sum(r.voter for r in sixth.group(1).replicas) == 5
    assert sixth.variables.Get(pb.GetRequest(key="k"), timeout=60).value == b"v"
