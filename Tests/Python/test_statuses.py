"""What each call answers when something is wrong, and what a repetition does."""

import time
import uuid

import grpc
import pytest
import raftoral_pb2 as pb
from nodes import failure, json_payload, wait_for

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module", params=[0, 2], ids=["first", "third"])
def node(cluster, request):
    return cluster[request.param]


def unique(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


def start(node, workflow_id="", kind="fibonacci", given='{"n":3}', **more):
    request = pb.StartWorkflowRequest(
        workflow_id=workflow_id, workflow_type=kind, input=json_payload(given), **more
    )
    return node.workflows.StartWorkflow(request, timeout=60)


def slow(node, workflow_id=""):
    return start(node, workflow_id, given='{"n":90,"stepDelayMilliseconds":1000}')


def code(call):
    return failure(call).code()


# Workflows


def test_unknown_things_are_not_found(node):
    wf = node.workflows
    assert code(lambda: start(node, kind="unheard_of")) == NOT_FOUND
    assert code(lambda: start(node, version=99)) == NOT_FOUND
    missing = unique("missing")
    result = failure(lambda: wf.GetWorkflowResult(pb.GetWorkflowResultRequest(workflow_id=missing), timeout=60))
    assert result.code() == NOT_FOUND and missing in result.details()
    assert code(lambda: wf.DescribeWorkflow(pb.DescribeWorkflowRequest(workflow_id=missing), timeout=60)) == NOT_FOUND
    assert code(lambda: wf.DescribeWorkflow(pb.DescribeWorkflowRequest(run_id="1-999999"), timeout=60)) == NOT_FOUND


def test_run_of_another_workflow_is_not_found(node):
    one, other = start(node, unique("one")), start(node, unique("other"))
    mixed = pb.GetWorkflowResultRequest(workflow_id=one.workflow_id, run_id=other.run_id)
    assert code(lambda: node.workflows.GetWorkflowResult(mixed, timeout=60)) == NOT_FOUND


def test_running_id_already_exists(node):
    taken = unique("taken")
    run = slow(node, taken).run_id
    again = failure(lambda: slow(node, taken))
    assert again.code() == grpc.StatusCode.ALREADY_EXISTS and f"run {run} is not over" in again.details()


def test_ended_id_may_be_used_again(node):
    name = unique("again")
    first = start(node, name)
    node.workflows.GetWorkflowResult(pb.GetWorkflowResultRequest(workflow_id=name), timeout=60)
    second = start(node, name)
    assert second.run_id != first.run_id
    # Without a run id the newest run answers; the older one stays to be asked for.
    assert describe(node, name).summary.run_id == second.run_id
    older = node.workflows.DescribeWorkflow(
        pb.DescribeWorkflowRequest(workflow_id=name, run_id=first.run_id), timeout=60
    )
    assert older.summary.run_id == first.run_id


def describe(node, name):
    return node.workflows.DescribeWorkflow(pb.DescribeWorkflowRequest(workflow_id=name), timeout=60)


def test_bad_arguments(node):
    wf = node.workflows
    assert code(lambda: start(node, kind="")) == INVALID
    assert code(lambda: start(node, "x" * 600)) == INVALID
    assert code(lambda: start(node, given='"' + "x" * (2 << 20) + '"')) == INVALID
    assert code(lambda: wf.GetWorkflowResult(pb.GetWorkflowResultRequest(), timeout=60)) == INVALID
    assert code(lambda: wf.ListWorkflows(pb.ListWorkflowsRequest(page_size=1001), timeout=60)) == INVALID
    assert code(lambda: wf.ListWorkflows(pb.ListWorkflowsRequest(page_token="nonsense"), timeout=60)) == INVALID
    assert (
        code(lambda: wf.GetWorkflowResult(pb.GetWorkflowResultRequest(run_id="nonsense"), timeout=60)) == INVALID
    )


def test_input_that_does_not_fit_fails_the_run(node):
    started = start(node, given='{"m":3}')
    answer = node.workflows.GetWorkflowResult(
        pb.GetWorkflowResultRequest(workflow_id=started.workflow_id), timeout=60
    )
    assert answer.status == pb.FAILED and '"n" is missing' in answer.failure


def test_start_is_idempotent_by_request_id(cluster):
    first, second, third = cluster
    name, request = unique("once"), unique("request")
    answers = [slow_with(node, name, request) for node in (first, second, third, first)]
    assert len({(a.workflow_id, a.run_id) for a in answers}) == 1


def slow_with(node, name, request):
    return start(node, name, given='{"n":90,"stepDelayMilliseconds":1000}', request_id=request)


def test_start_without_id_is_idempotent_too(cluster):
    request = unique("request")
    answers = [start(node, request_id=request) for node in cluster]
    assert len({(a.workflow_id, a.run_id) for a in answers}) == 1 and answers[0].workflow_id


def test_waiting_for_a_result_keeps_the_deadline(node):
    name = unique("slow")
    slow(node, name)
    began = time.monotonic()
    late = failure(
        lambda: node.workflows.GetWorkflowResult(pb.GetWorkflowResultRequest(workflow_id=name), timeout=0.5)
    )
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began > 0.4


def test_waiting_for_a_result_can_be_cancelled(node):
    name = unique("slow")
    slow(node, name)
    call = node.workflows.GetWorkflowResult.future(pb.GetWorkflowResultRequest(workflow_id=name), timeout=60)
    call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    # The run does not care who waits for it.
    assert describe(node, name).summary.status == pb.RUNNING


def test_many_wait_for_one_result(cluster):
    started = start(cluster[0], given='{"n":20,"stepDelayMilliseconds":20}')
    request = pb.GetWorkflowResultRequest(workflow_id=started.workflow_id)
    calls = [node.workflows.GetWorkflowResult.future(request, timeout=60) for node in cluster for _ in range(20)]
    assert {call.result().result.data for call in calls} == {b'{"result":6765}'}


# Variables


def put(node, key, value, request_id=""):
    return node.variables.Put(pb.PutRequest(key=key, value=value, request_id=request_id), timeout=60).revision


def get(node, key, stale=False):
    return node.variables.Get(pb.GetRequest(key=key, stale=stale), timeout=60)


def swap(node, key, expected, value, request_id=""):
    answer = node.variables.CompareAndSwap(
        pb.CompareAndSwapRequest(key=key, expected_revision=expected, value=value, request_id=request_id), timeout=60
    )
    return answer.swapped, answer.revision


def test_put_is_idempotent_by_request_id(cluster):
    first, second, _ = cluster
    key, request = unique("key"), unique("request")
    revision = put(first, key, b"one", request)
    newer = put(first, key, b"two")
    assert newer > revision
    assert put(second, key, b"one", request) == revision
    assert get(second, key).value == b"two"


def test_delete_is_idempotent_by_request_id(node):
    key, request = unique("key"), unique("request")
    put(node, key, b"one")
    delete = pb.DeleteRequest(key=key, request_id=request)
    assert node.variables.Delete(delete, timeout=60).existed
    put(node, key, b"two")
    assert node.variables.Delete(delete, timeout=60).existed
    assert get(node, key).value == b"two"
    assert node.variables.Delete(pb.DeleteRequest(key=key), timeout=60).existed
    assert not node.variables.Delete(pb.DeleteRequest(key=key), timeout=60).existed


def test_compare_and_swap(node):
    key = unique("key")
    swapped, created = swap(node, key, 0, b"one")
    assert swapped and created > 0
    assert swap(node, key, 0, b"never") == (False, created)
    assert swap(node, key, created + 1, b"never") == (False, created)
    swapped, changed = swap(node, key, created, b"two")
    assert swapped and changed > created
    assert (get(node, key).value, get(node, key).revision) == (b"two", changed)
    node.variables.Delete(pb.DeleteRequest(key=key), timeout=60)
    assert swap(node, key, changed, b"never") == (False, 0)
    assert swap(node, key, 0, b"three")[0]


def test_compare_and_swap_is_idempotent_by_request_id(node):
    key, request = unique("key"), unique("request")
    answer = swap(node, key, 0, b"one", request)
    assert answer[0]
    put(node, key, b"two")
    assert swap(node, key, 0, b"one", request) == answer
    assert get(node, key).value == b"two"


def test_one_of_many_swappers_wins(cluster):
    key = unique("key")
    calls = [
        node.variables.CompareAndSwap.future(
            pb.CompareAndSwapRequest(key=key, expected_revision=0, value=node.address.encode()), timeout=60
        )
        for node in cluster
        for _ in range(10)
    ]
    answers = [call.result() for call in calls]
    assert sum(a.swapped for a in answers) == 1
    assert {a.revision for a in answers} == {get(cluster[0], key).revision}


def test_bad_variables(node):
    assert code(lambda: put(node, "", b"v")) == INVALID
    assert code(lambda: get(node, "")) == INVALID
    assert code(lambda: put(node, "k" * 1025, b"v")) == INVALID
    assert code(lambda: put(node, "k", b"v" * ((1 << 20) + 1))) == INVALID
    key = unique("largest")
    assert put(node, key, b"v" * (1 << 20)) > 0 and len(get(node, key).value) == 1 << 20
    assert not get(node, unique("absent")).found


def test_reads_see_every_acknowledged_write(cluster):
    key = unique("key")
    for round in range(50):
        put(cluster[round % 3], key, str(round).encode())
        assert get(cluster[(round + 1) % 3], key).value == str(round).encode()


def test_stale_reads_catch_up(cluster):
    key = unique("key")
    put(cluster[0], key, b"v")
    for node in cluster:
        wait_for("the write arrives", lambda: get(node, key, stale=True).found)


# The cluster


def test_cluster_refusals(node):
    cluster = node.cluster
    assert code(lambda: cluster.Join(pb.JoinRequest(address="nowhere"), timeout=60)) == INVALID
    assert code(lambda: cluster.Join(pb.JoinRequest(address="127.0.0.1:0"), timeout=60)) == INVALID
    taken = pb.JoinRequest(address="127.0.0.1:9", node_id=1, protocol_level=node.status().protocol_level)
    assert code(lambda: cluster.Join(taken, timeout=60)) == grpc.StatusCode.ALREADY_EXISTS
    assert code(lambda: cluster.Remove(pb.RemoveRequest(node_id=99), timeout=60)) == NOT_FOUND
    transfer = pb.TransferLeaderRequest(group_id=77, node_id=1)
    assert code(lambda: cluster.TransferLeader(transfer, timeout=60)) == NOT_FOUND
    transfer = pb.TransferLeaderRequest(group_id=1, node_id=99)
    assert code(lambda: cluster.TransferLeader(transfer, timeout=60)) == grpc.StatusCode.FAILED_PRECONDITION


# The protocol


def raw(node, path, body, timeout=60):
    """A call with bytes for a request."""
    method = node.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    return method(body, timeout=timeout)


METHODS = {
    "RaftService": ["SendMessage", "Discover"],
    "WorkflowService": ["StartWorkflow", "GetWorkflowResult", "DescribeWorkflow", "ListWorkflows"],
    "VariableService": ["Put", "Get", "CompareAndSwap", "Delete"],
    "ClusterService": ["Join", "Status", "Remove", "TransferLeader", "BeginBackup", "ReadBackup", "EndBackup"],
}


@pytest.mark.parametrize("path", [f"/raftoral.{s}/{m}" for s, ms in METHODS.items() for m in ms])
def test_garbage_is_an_invalid_argument(cluster, path):
    for body in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b\x01", bytes(range(200, 256))):
        assert code(lambda: raw(cluster[0], path, body)) == INVALID
    assert cluster[0].status().node_id == 1


def test_unknown_methods_are_unimplemented(node):
    for path in ("/raftoral.WorkflowService/Explode", "/raftoral.Nothing/At", "/", "/x"):
        assert code(lambda: raw(node, path, b"")) == grpc.StatusCode.UNIMPLEMENTED


def test_too_large_a_message_is_refused(node):
    path = "/raftoral.VariableService/Put"
    assert code(lambda: raw(node, path, b"\x00" * ((4 << 20) + 1))) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_compressed_by_gzip_are_taken_and_others_unimplemented(node):
    request = pb.PutRequest(key="compressed", value=b"v" * 5000).SerializeToString()
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(node.address, compression=compression) as channel:
            put = channel.unary_unary(
                "/raftoral.VariableService/Put", request_serializer=bytes, response_deserializer=pb.PutResponse.FromString
            )
            if compression is grpc.Compression.Gzip:
                assert put(request, timeout=60).revision > 0
            else:
                assert failure(lambda: put(request, timeout=60)).code() == grpc.StatusCode.UNIMPLEMENTED
