"""Streaming in both directions: the stream that nodes keep open to each other, spoken by grpcio."""

import queue

import grpc
import peer_pb2 as peer
import pytest
import raftoral_pb2 as pb
from nodes import failure

HEARTBEAT = 8


class Requests:
    """A stream of requests that is fed while it is read."""

    def __init__(self):
        self._queue = queue.Queue()

    def send(self, message):
        self._queue.put(message)

    def end(self):
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


@pytest.fixture(scope="module")
def node(cluster):
    return cluster[0]


def greeting(node, **changes):
    cluster_id = node.raft.Discover(pb.DiscoveryRequest(), timeout=60).cluster_id
    fields = {"raftoral-cluster": cluster_id, "raftoral-node": "77", "raftoral-address": "127.0.0.1:9"}
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name, value) for name, value in fields.items() if value is not None]


def to_unknown_group(group):
    """A heartbeat that the node has to refuse, and says so."""
    message = peer.PeerMessage(group_id=group, kind=HEARTBEAT, to=1, term=1, **{"from": 77})
    return pb.RaftMessage(raft_message=message.SerializeToString(), from_node_id=77, to_node_id=1)


def test_answers_come_while_requests_are_still_sent(node):
    requests = Requests()
    answers = node.raft.StreamMessages(iter(requests), metadata=greeting(node), timeout=60)
    for number in range(50, 70):
        requests.send(to_unknown_group(number))
        answer = next(answers)
        assert not answer.success and answer.error == f"there is no group {number} here"
    requests.end()
    assert list(answers) == [] and answers.code() == grpc.StatusCode.OK


def test_many_messages_in_flight_are_answered_in_order(node):
    count = 20_000
    answers = node.raft.StreamMessages(
        (to_unknown_group(number) for number in range(100, 100 + count)), metadata=greeting(node), timeout=60
    )
    errors = [answer.error for answer in answers]
    assert errors == [f"there is no group {number} here" for number in range(100, 100 + count)]


def test_client_may_cancel(node):
    requests = Requests()
    answers = node.raft.StreamMessages(iter(requests), metadata=greeting(node), timeout=60)
    requests.send(to_unknown_group(50))
    next(answers)
    answers.cancel()
    requests.end()
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.CANCELLED
    assert node.status().node_id == 1


@pytest.mark.parametrize(
    "changes, code, words",
    [
        ({"raftoral_cluster": None}, grpc.StatusCode.INVALID_ARGUMENT, "does not say which node"),
        ({"raftoral_node": "many"}, grpc.StatusCode.INVALID_ARGUMENT, "does not say which node"),
        ({"raftoral_address": "nowhere"}, grpc.StatusCode.INVALID_ARGUMENT, "does not say which node"),
        ({"raftoral_cluster": "another"}, grpc.StatusCode.FAILED_PRECONDITION, "belongs to cluster"),
    ],
)
def test_strangers_are_refused(node, changes, code, words):
    answers = node.raft.StreamMessages(iter(Requests()), metadata=greeting(node, **changes), timeout=60)
    refused = failure(lambda: next(answers))
    assert refused.code() == code and words in refused.details()


def test_garbage_on_the_stream_ends_it(node):
    answers = node.raft.StreamMessages(
        iter([pb.RaftMessage(raft_message=b"\xff\xff\xff")]), metadata=greeting(node), timeout=60
    )
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_deadline_ends_a_stream(node):
    answers = node.raft.StreamMessages(iter(Requests()), metadata=greeting(node), timeout=0.3)
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_send_message_answers_with_words(node):
    answer = node.raft.SendMessage(to_unknown_group(50), timeout=60)
    assert not answer.success and answer.error == "there is no group 50 here"
    wrong = pb.RaftMessage(cluster_id="another")
    answer = node.raft.SendMessage(wrong, timeout=60)
    assert not answer.success and "belongs to cluster" in answer.error
    wrong = pb.RaftMessage(to_node_id=99)
    assert "this is node 1, not 99" in node.raft.SendMessage(wrong, timeout=60).error


def test_send_message_takes_a_command(node):
    command = pb.WorkflowCommand(variable_put=pb.VariablePut(key="by-message", value=b"1"))
    assert node.raft.SendMessage(pb.RaftMessage(command=command), timeout=60).success
    assert node.variables.Get(pb.GetRequest(key="by-message"), timeout=60).value == b"1"
