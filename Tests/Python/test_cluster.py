"""The way of a client: find the cluster, start a workflow on one node, read its result on another."""

import raftoral_pb2 as pb
from nodes import fibonacci, json_payload, leader_and_followers, wait_for


def test_discover_tells_who_answers(cluster):
    leader, _ = leader_and_followers(cluster, group=0)
    answers = {node.address: node.raft.Discover(pb.DiscoveryRequest(), timeout=60) for node in cluster}
    assert {a.node_id for a in answers.values()} == {1, 2, 3}
    assert {a.highest_known_node_id for a in answers.values()} == {3}
    assert {address: a.address for address, a in answers.items()} == {n.address: n.address for n in cluster}
    assert {address for address, a in answers.items() if a.role == pb.LEADER} == {leader.address}
    assert {a.leader_address for a in answers.values()} == {leader.address}
    assert len({a.cluster_id for a in answers.values()}) == 1 and answers[leader.address].cluster_id


def test_start_on_a_follower_and_read_on_another_node(cluster):
    _, (starter, reader) = leader_and_followers(cluster)
    started = starter.workflows.StartWorkflow(
        pb.StartWorkflowRequest(
            workflow_id="across", workflow_type="fibonacci", input=json_payload('{"n":30,"stepDelayMilliseconds":2}')
        ),
        timeout=60,
    )
    assert started.workflow_id == "across"
    answer = reader.workflows.GetWorkflowResult(
        pb.GetWorkflowResultRequest(workflow_id="across", run_id=started.run_id), timeout=60
    )
    assert answer.status == pb.COMPLETED
    assert answer.result.data == b'{"result":832040}'
    described = reader.workflows.DescribeWorkflow(pb.DescribeWorkflowRequest(workflow_id="across"), timeout=60)
    assert [c.position for c in described.checkpoints] == list(range(30))
    assert [int(c.value.data) for c in described.checkpoints] == [fibonacci(n) for n in range(1, 31)]


def test_every_node_knows_every_sample(cluster):
    calls = {
        "ping_pong": ('{"message":"ping"}', b'{"message":"pong"}'),
        "fibonacci": ('{"n":10}', b'{"result":55}'),
    }
    for node in cluster:
        for kind, (given, expected) in calls.items():
            started = node.workflows.StartWorkflow(
                pb.StartWorkflowRequest(workflow_type=kind, input=json_payload(given)), timeout=60
            )
            answer = node.workflows.GetWorkflowResult(
                pb.GetWorkflowResultRequest(workflow_id=started.workflow_id), timeout=60
            )
            assert (answer.status, answer.result.data) == (pb.COMPLETED, expected)


def test_process_order_ships_and_takes_the_failure_path(cluster):
    order = '{"orderID":"o-1","items":["book"],"amountCents":1200,"waitMilliseconds":200%s}'
    node = cluster[1]
    shipped = node.workflows.StartWorkflow(
        pb.StartWorkflowRequest(workflow_type="process_order", input=json_payload(order % "")), timeout=60
    )
    answer = node.workflows.GetWorkflowResult(
        pb.GetWorkflowResultRequest(workflow_id=shipped.workflow_id), timeout=60
    )
    assert answer.status == pb.COMPLETED and b'"status":"shipped"' in answer.result.data
    declined = node.workflows.StartWorkflow(
        pb.StartWorkflowRequest(workflow_type="process_order", input=json_payload(order % ',"failPayment":true')),
        timeout=60,
    )
    answer = node.workflows.GetWorkflowResult(
        pb.GetWorkflowResultRequest(workflow_id=declined.workflow_id), timeout=60
    )
    assert answer.status == pb.FAILED and "payment was declined" in answer.failure
    steps = node.workflows.DescribeWorkflow(
        pb.DescribeWorkflowRequest(workflow_id=declined.workflow_id), timeout=60
    ).checkpoints
    assert [c.key for c in steps][-1] == "release_inventory"


def test_list_pages_and_filters(cluster):
    node = cluster[2]
    wanted = {f"listed-{i}" for i in range(7)}
    for workflow in wanted:
        node.workflows.StartWorkflow(
            pb.StartWorkflowRequest(
                workflow_id=workflow, workflow_type="ping_pong", input=json_payload('{"message":"no"}')
            ),
            timeout=60,
        )
    for workflow in wanted:
        answer = node.workflows.GetWorkflowResult(pb.GetWorkflowResultRequest(workflow_id=workflow), timeout=60)
        assert answer.status == pb.FAILED
    found, token, pages = [], "", 0
    while True:
        page = node.workflows.ListWorkflows(
            pb.ListWorkflowsRequest(workflow_type="ping_pong", status=pb.FAILED, page_size=3, page_token=token),
            timeout=60,
        )
        assert len(page.workflows) <= 3
        found += [w.workflow_id for w in page.workflows]
        pages, token = pages + 1, page.next_page_token
        if not token:
            break
        assert pages < 20
    assert len(found) == len(set(found)) and wanted <= set(found)


def test_variables_are_seen_by_all_nodes(cluster):
    first, second, third = cluster
    revision = first.variables.Put(pb.PutRequest(key="colour", value=b"red"), timeout=60).revision
    seen = third.variables.Get(pb.GetRequest(key="colour"), timeout=60)
    assert (seen.found, seen.value, seen.revision) == (True, b"red", revision)
    assert second.variables.Delete(pb.DeleteRequest(key="colour"), timeout=60).existed
    assert not first.variables.Get(pb.GetRequest(key="colour"), timeout=60).found


def test_leadership_moves_on_request(cluster):
    leader, (heir, _) = leader_and_followers(cluster)
    leader.cluster.TransferLeader(
        pb.TransferLeaderRequest(group_id=1, node_id=heir.status().node_id), timeout=60
    )
    wait_for("the heir leads", lambda: heir.group(1).role == pb.LEADER)
