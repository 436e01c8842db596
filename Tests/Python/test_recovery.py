"""A cluster that has lost its majority for ever goes on as a new one, from what one survivor has."""

import re

import pytest
import raftoral_pb2 as pb
from nodes import fibonacci, free_port, json_payload, leader_and_followers, wait_for, wait_for_voters


def data(node):
    return f"raftoral-data/127.0.0.1-{node.port}"


def start(node, workflow, n, delay):
    request = pb.StartWorkflowRequest(
        workflow_id=workflow,
        workflow_type="fibonacci",
        input=json_payload(f'{{"n":{n},"stepDelayMilliseconds":{delay}}}'),
        request_id=workflow,
    )
    return node.workflows.StartWorkflow(request, timeout=60)


def put(node, key, request=None):
    request = pb.PutRequest(key=key, value=key.encode(), request_id=request or key)
    return node.variables.Put(request, timeout=60).revision


def result(node, run_id):
    request = pb.GetWorkflowResultRequest(run_id=run_id)
    return node.workflows.GetWorkflowResult(request, timeout=120)


@pytest.mark.parametrize("survivor", ["leader", "follower"])
def test_one_of_three_goes_on(processes, survivor):
    nodes = processes.cluster(3)
    leader, followers = leader_and_followers(nodes)
    kept = leader if survivor == "leader" else followers[0]
    lost = [node for node in nodes if node is not kept]
    runs = [start(leader, f"w{number}", 30, 200).run_id for number in range(5)]
    revisions = {f"key-{number}": put(leader, f"key-{number}") for number in range(50)}
    applied = leader.group().applied_index
    wait_for("the survivor has it", lambda: kept.group().applied_index >= applied)
    old = kept.status()
    for node in lost + [kept]:
        node.end()

    flags = ("--data-dir", data(kept), "--address", kept.address)
    code, out, err = processes.run("cluster", "recover", *flags)
    assert code == 1 and "--yes confirms it" in err
    assert re.search(rf"holds node {old.node_id} of cluster {old.cluster_id}\.", out)
    last = [(int(index), int(term)) for index, term in re.findall(r"entries up to (\d+) of term (\d+)", out)]
    assert len(last) == 2 and last[1][0] >= applied
    assert re.findall(r"voters 1, 2, 3$", out, re.M) == ["voters 1, 2, 3"] * 2
    assert all(f"  node {n} at 127.0.0.1:" in out for n in {1, 2, 3} - {old.node_id})

    code, out, err = processes.run("cluster", "recover", *flags, "--yes")
    assert (code, err) == (0, "")
    new_id = re.search(r"is node 4 of the new cluster (\w+)$", out, re.M)[1]
    assert new_id != old.cluster_id

    again = processes.node("--data-dir", data(kept), port=kept.port).wait_until_running()
    status = again.status()
    assert (status.cluster_id, status.node_id, [m.node_id for m in status.members]) == (new_id, 4, [4])
    for key, revision in revisions.items():
        found = again.variables.Get(pb.GetRequest(key=key), timeout=60)
        assert (found.value, found.revision) == (key.encode(), revision)
    # The same request is recognised, and a new one counts on.
    assert put(again, "key-0") == revisions["key-0"]
    assert put(again, "after") == max(revisions.values()) + 1

    # Former members come back after all: they stay out, and the new cluster does not hear of them.
    for node in lost:
        back = processes.node("--data-dir", data(node), port=node.port)
        wait_for("it is up", lambda back=back: "Press Ctrl+C" in back.out.text or not back.is_running)
    assert [m.node_id for m in again.status().members] == [4]
    others = [
        processes.node("--peers", again.address, "--discovery-timeout", 300, port=free_port()).wait_until_running()
        for _ in range(2)
    ]
    wait_for_voters(again, 3)
    assert sorted(m.node_id for m in others[0].status().members) == [4, 5, 6]
    for run_id in runs:
        ended = result(others[0], run_id)
        assert ended.status == pb.COMPLETED, ended
        assert f'"result":{fibonacci(30)}' in ended.result.data.decode()


def test_what_cannot_be_recovered(processes):
    code, out, err = processes.run("cluster", "recover", "--data-dir", "nowhere", "--address", "127.0.0.1:1", "--yes")
    assert (code, out) == (1, "") and "nowhere" in err
    node = processes.node("--bootstrap").wait_until_running()
    code, _, err = processes.run("cluster", "recover", "--data-dir", data(node), "--address", node.address, "--yes")
    assert code == 1 and "in use by another process" in err
