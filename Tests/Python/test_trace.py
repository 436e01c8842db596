"""W3C trace context: what a start comes with stays with its run."""

import json

import pytest
import raftoral_pb2 as pb
from nodes import free_port

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT, STATE = f"00-{TRACE}-{SPAN}-01", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"


def start(node, id, metadata):
    payload = pb.Payload(encoding="json/plain", data=b'{"n": 5}')
    request = pb.StartWorkflowRequest(workflow_id=id, workflow_type="fibonacci", input=payload)
    node.workflows.StartWorkflow(request, metadata=metadata, timeout=60)


def traced(node, id):
    answer = node.workflows.DescribeWorkflow(pb.DescribeWorkflowRequest(workflow_id=id), timeout=60)
    return answer.traceparent, answer.tracestate


def test_it_stays_with_the_run_on_every_node(cluster):
    start(cluster[1], "w", [("traceparent", PARENT), ("tracestate", STATE)])
    for node in cluster:
        assert traced(node, "w") == (PARENT, STATE)


def test_through_a_restart_a_backup_and_a_restore(processes):
    node = processes.node("--bootstrap", "--data-dir", "d").wait_until_running()
    start(node, "traced", [("traceparent", PARENT), ("tracestate", "rojo=1"), ("tracestate", "congo=2")])
    start(node, "plain", [])
    node.end()
    node = processes.node("--data-dir", "d").wait_until_running()
    assert traced(node, "traced") == (PARENT, "rojo=1,congo=2")
    assert traced(node, "plain") == ("", "")

    code, out, _ = processes.run("workflow", "describe", "traced", "--address", node.address)
    assert code == 0 and f"trace {TRACE}, started by span {SPAN}" in out
    _, out, _ = processes.run("workflow", "describe", "traced", "--address", node.address, "--output", "json")
    assert json.loads(out)["traceparent"] == PARENT and json.loads(out)["tracestate"] == "rojo=1,congo=2"

    assert processes.run("backup", "--out", "b.sqlite", "--address", node.address)[0] == 0
    node.end()
    restored = free_port()
    flags = ("--data-dir", "r", "--address", f"127.0.0.1:{restored}")
    assert processes.run("restore", "--from", "b.sqlite", *flags)[0] == 0
    node = processes.node("--data-dir", "r", port=restored).wait_until_running()
    assert traced(node, "traced") == (PARENT, "rojo=1,congo=2")
    assert traced(node, "plain") == ("", "")


@pytest.mark.parametrize(
    "metadata",
    [
        [("tracestate", STATE)],
        [("traceparent", PARENT.upper())],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", PARENT + "-more")],
        [("traceparent", "0" * 4096), ("tracestate", STATE)],
    ],
)
def test_what_is_none_is_ignored(cluster, metadata, request):
    id = request.node.name
    start(cluster[0], id, metadata)
    assert traced(cluster[0], id) == ("", "")


def test_a_bad_tracestate_alone_is_left_out(cluster):
    start(cluster[0], "half", [("traceparent", PARENT), ("tracestate", "no list at all")])
    assert traced(cluster[0], "half") == (PARENT, "")
