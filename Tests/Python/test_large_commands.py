"""A command that fits a call to a node, but not a message between nodes."""

import grpc
import pytest
import raftoral_pb2 as pb
from nodes import failure, leader_and_followers

MESSAGE_BYTE_COUNT_MAX = 4 << 20


@pytest.fixture(scope="module")
def pair(program, tmp_path_factory):
    from nodes import Processes

    started = Processes(program, tmp_path_factory.mktemp("pair"))
    try:
        yield started.cluster(2)
    finally:
        started.end_all()


def put(node, size):
    return node.variables.Put(pb.PutRequest(key="large", value=b"x" * size), timeout=60)


@pytest.mark.parametrize("through", ["leader", "follower"])
@pytest.mark.parametrize("below", [16, 64, 256, 4096, 1 << 20])
def test_large_command_is_refused_and_the_next_one_is_taken(pair, through, below):
    leader, followers = leader_and_followers(pair)
    node = leader if through == "leader" else followers[0]
    refused = failure(lambda: put(node, MESSAGE_BYTE_COUNT_MAX - below))
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.details()
    assert put(node, 10).revision > 0


def test_large_requests_to_join_and_long_addresses_are_refused(pair):
    for request in [
        pb.JoinRequest(address="127.0.0.1:1", request_id="r" * 2000),
        pb.JoinRequest(address="a" * 2000 + ":1"),
    ]:
        refused = failure(lambda: pair[0].cluster.Join(request, timeout=60))
        assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.details()
    assert len(pair[0].status().members) == 2
