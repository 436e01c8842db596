"""What a node prints, byte for byte. Only the ports differ."""

import signal

import pytest
import raftoral_pb2 as pb
from nodes import free_port, leader_and_followers, wait_for

BOOTSTRAP = """\
🚀 Starting Raftoral node...
   Address: 127.0.0.1:5001
   Mode: Bootstrap (starting new cluster)
   Node ID: 1
   Cluster nodes: 1 total
✓ Raft cluster initialized
✓ gRPC server listening on 127.0.0.1:5001
✓ Workflow runtime ready

🎉 Node 1 is running!
   Press Ctrl+C to shutdown gracefully
"""

JOIN = """\
🚀 Starting Raftoral node...
   Address: 127.0.0.1:5002
   Mode: Join existing cluster
   Discovering peers: ["127.0.0.1:5001"]
✓ Discovered peer at 127.0.0.1:5001: node_id=1, role=Leader, highest_known=1
   Auto-assigned node ID: 2
   Cluster nodes: 2 total
✓ Raft cluster initialized
✓ gRPC server listening on 127.0.0.1:5002
✓ Workflow runtime ready

🎉 Node 2 is running!
   Press Ctrl+C to shutdown gracefully
"""

JOIN_TWO_PEERS = """\
🚀 Starting Raftoral node...
   Address: 127.0.0.1:5003
   Mode: Join existing cluster
   Discovering peers: ["127.0.0.1:5001", "127.0.0.1:5002"]
✓ Discovered peer at 127.0.0.1:5001: node_id=1, role=Leader, highest_known=2
✓ Discovered peer at 127.0.0.1:5002: node_id=2, role=Follower, highest_known=2
   Auto-assigned node ID: 3
   Cluster nodes: 3 total
✓ Raft cluster initialized
✓ gRPC server listening on 127.0.0.1:5003
✓ Workflow runtime ready

🎉 Node 3 is running!
   Press Ctrl+C to shutdown gracefully
"""

JOIN_MANUAL_ID = """\
🚀 Starting Raftoral node...
   Address: 127.0.0.1:5002
   Mode: Join existing cluster
   Discovering peers: ["127.0.0.1:5001"]
✓ Discovered peer at 127.0.0.1:5001: node_id=1, role=Leader, highest_known=1
   Using provided node ID: 5
   Cluster nodes: 2 total
✓ Raft cluster initialized
✓ gRPC server listening on 127.0.0.1:5002
✓ Workflow runtime ready

🎉 Node 5 is running!
   Press Ctrl+C to shutdown gracefully
"""

SHUTDOWN = """\
🛑 Shutdown signal received, stopping gracefully...
✓ Server stopped
"""


def printed(node, *others):
    """The node's standard output with the ports of the issue's example: 5001 for the first of `others`, and so on;
    the node itself comes last."""
    text = node.out.text
    for number, port in enumerate([*(getattr(o, "port", o) for o in others), node.port], start=5001):
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{number}")
    return text


def test_bootstrap(processes):
    node = processes.node("--bootstrap").wait_until_running()
    assert printed(node) == BOOTSTRAP


def test_join(processes):
    first = processes.node("--bootstrap").wait_until_running()
    second = processes.node("--peers", first.address).wait_until_running()
    assert printed(second, first) == JOIN
    assert printed(first) == BOOTSTRAP


def test_join_with_two_peers(processes):
    first, second = processes.cluster(2)
    third = processes.node("--peers", f"{first.address},{second.address}").wait_until_running()
    assert printed(third, first, second) == JOIN_TWO_PEERS


def test_join_with_manual_id(processes):
    first = processes.node("--bootstrap").wait_until_running()
    second = processes.node("--peers", first.address, "--node-id", 5).wait_until_running()
    assert printed(second, first) == JOIN_MANUAL_ID
    third = processes.node("--peers", first.address).wait_until_running()
    assert "   Auto-assigned node ID: 6\n" in third.out.text


def test_peer_that_does_not_answer(processes):
    first = processes.node("--bootstrap").wait_until_running()
    silent = free_port()
    second = processes.node("--peers", f"127.0.0.1:{silent},{first.address}").wait_until_running()
    expected = JOIN.replace(
        '   Discovering peers: ["127.0.0.1:5001"]\n',
        '   Discovering peers: ["127.0.0.1:5000", "127.0.0.1:5001"]\n'
        "✗ Failed to discover peer at 127.0.0.1:5000: cannot connect to 127.0.0.1:5000: connection refused\n",
    )
    assert printed(second, first).replace(f"127.0.0.1:{silent}", "127.0.0.1:5000") == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_shutdown(processes, number):
    node = processes.node("--bootstrap").wait_until_running()
    node.send(number)
    assert node.wait() == 0
    assert printed(node) == BOOTSTRAP + SHUTDOWN


def test_resume(processes):
    node = processes.node("--bootstrap").wait_until_running()
    node.variables.Put(pb.PutRequest(key="kept", value=b"1"), timeout=60)
    node.send(signal.SIGTERM)
    assert node.wait() == 0
    for flags, mode in [
        ((), "Resume (data directory holds a node)"),
        (("--bootstrap",), "Resume (data directory holds a node; --bootstrap ignored)"),
    ]:
        again = processes.node(*flags, port=node.port).wait_until_running()
        assert printed(again) == BOOTSTRAP.replace("Bootstrap (starting new cluster)", mode)
        assert again.variables.Get(pb.GetRequest(key="kept"), timeout=60).value == b"1"
        again.send(signal.SIGTERM)
        assert again.wait() == 0


def test_shutdown_hands_leadership_over(processes):
    nodes = processes.cluster(3)
    leader, followers = leader_and_followers(nodes)
    leader.send(signal.SIGTERM)
    assert leader.wait() == 0
    assert leader.out.text.endswith(SHUTDOWN)
    successor, _ = leader_and_followers(followers)
    assert successor.variables.Put(pb.PutRequest(key="after", value=b"1"), timeout=60).revision > 0


def test_second_signal_stops_at_once(processes):
    """A node of two whose other one hangs has nobody to hand over to, and waits for its grace."""
    nodes = processes.cluster(2)
    leader, (follower,) = leader_and_followers(nodes)
    follower.send(signal.SIGSTOP)
    try:
        leader.send(signal.SIGTERM)
        wait_for("the first line of the end", lambda: "🛑" in leader.out.text)
        leader.send(signal.SIGTERM)
        assert leader.wait() != 0
        assert "✓ Server stopped" not in leader.out.text
    finally:
        follower.send(signal.SIGCONT)


def test_signal_while_joining(processes):
    node = processes.node("--peers", f"127.0.0.1:{free_port()}")
    wait_for("it asks", lambda: "✗ Failed to discover" in node.out.text)
    node.send(signal.SIGINT)
    assert node.wait() == 0
    assert node.out.text.endswith(SHUTDOWN)


def test_calls_under_way_finish_before_the_end(processes):
    nodes = processes.cluster(3)
    _, (follower, _) = leader_and_followers(nodes)
    pending = [
        follower.variables.Put.future(pb.PutRequest(key=f"key-{n}", value=b"v" * 1000), timeout=60) for n in range(200)
    ]
    pending[0].result()
    follower.send(signal.SIGTERM)
    codes = {call.code().name for call in pending}
    assert follower.wait() == 0
    # What the node had taken is answered; what came later is refused, and may be asked of another node.
    assert codes <= {"OK", "UNAVAILABLE"}
    assert follower.out.text.endswith(SHUTDOWN)
