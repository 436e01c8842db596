"""Flags of a node, and the commands for people and programs."""

import json
import signal

import raftoral_pb2 as pb
from nodes import free_port, wait_for, wait_for_voters


def test_short_flags(processes):
    first, second = free_port(), free_port()
    processes.launch("-a", f"127.0.0.1:{first}", "-b")
    joiner = processes.launch("-a", f"127.0.0.1:{second}", "-p", f"127.0.0.1:{first}", "-n", "9")
    wait_for("it runs", lambda: "🎉 Node 9 is running!" in joiner.out.text)


def test_help_and_version(processes):
    code, out, _ = processes.run("-h")
    assert code == 0
    for flag in ["--address", "--bootstrap", "--peers", "--node-id", "-a", "-b", "-p", "-n", "-h"]:
        assert flag in out, out
    code, out, _ = processes.run("serve", "--help")
    assert code == 0 and "--discovery-timeout" in out and "--advertise-address" in out
    code, out, _ = processes.run("--version")
    assert code == 0 and out.strip().count(".") == 2


def test_listen_is_address(processes):
    port = free_port()
    program = processes.launch("--listen", f"127.0.0.1:{port}", "--bootstrap")
    wait_for("it runs", lambda: f"✓ gRPC server listening on 127.0.0.1:{port}\n" in program.out.text)


def test_default_data_directory_is_named_after_the_address(processes):
    node = processes.node("--bootstrap").wait_until_running()
    assert (processes.directory / "raftoral-data" / f"127.0.0.1-{node.port}" / "identity").exists()


def test_in_memory_leaves_nothing(processes):
    node = processes.node("--bootstrap", "--in-memory").wait_until_running()
    assert node.variables.Put(pb.PutRequest(key="k", value=b"v"), timeout=60).revision > 0
    node.send(signal.SIGTERM)
    assert node.wait() == 0
    assert list(processes.directory.iterdir()) == []


def test_advertised_address(processes):
    port = free_port()
    node = processes.node("--bootstrap", "--advertise-address", f"localhost:{port}", port=port).wait_until_running()
    assert node.raft.Discover(pb.DiscoveryRequest(), timeout=60).address == f"localhost:{port}"
    joiner = processes.node("--peers", node.address).wait_until_running()
    wait_for_voters(joiner, 2)


def test_json_logs_are_json(processes):
    first = processes.node("--bootstrap", "--log-format", "json", "--log-level", "trace").wait_until_running()
    second = processes.node("--peers", first.address).wait_until_running()
    wait_for_voters(first, 2)
    for node in (second, first):
        node.send(signal.SIGTERM)
        assert node.wait() == 0
    lines = first.err.text.splitlines()
    assert lines
    for line in lines:
        entry = json.loads(line)
        assert {"time", "level", "message"} <= entry.keys()
    assert any(json.loads(line)["message"] == "changing configuration" for line in lines)


def test_text_logs_are_lines(processes):
    first = processes.node("--bootstrap").wait_until_running()
    processes.node("--peers", first.address).wait_until_running()
    wait_for_voters(first, 2)
    lines = [line for line in first.err.text.splitlines() if "changing configuration" in line]
    assert lines and " info changing configuration change=" in lines[0]
    assert all(line not in first.out.text for line in lines)


def run(processes, node, *arguments):
    return processes.run(*arguments, "--address", node.address)


def test_workflow_commands(cluster, processes):
    node = cluster[1]
    started = run(
        processes, node, "workflow", "start", "--type", "fibonacci", "--id", "by-hand", "--input", '{"n":30}', "--wait"
    )
    assert started[0] == 0 and started[1].endswith('{"result":832040}\n'), started
    assert run(processes, cluster[2], "workflow", "result", "by-hand") == (0, '{"result":832040}\n', "")
    code, out, _ = run(processes, node, "workflow", "result", "by-hand", "--output", "json")
    assert code == 0 and json.loads(out) == {"status": "completed", "result": '{"result":832040}'}
    code, out, _ = run(processes, node, "workflow", "list", "--output", "json")
    assert code == 0 and "by-hand" in [w["workflowID"] for w in json.loads(out)["workflows"]]
    code, out, _ = run(processes, node, "workflow", "list")
    assert code == 0 and out.splitlines()[0].split() == ["WORKFLOW", "RUN", "TYPE", "STATUS", "OWNER", "STEPS"]
    code, out, _ = run(processes, node, "workflow", "describe", "by-hand", "--output", "json")
    assert code == 0 and [c["position"] for c in json.loads(out)["checkpoints"]] == list(range(30))
    code, out, _ = run(processes, node, "workflow", "describe", "by-hand")
    assert code == 0 and out.count("fibonacci-") == 30


def test_failed_workflow_fails_the_command(cluster, processes):
    node = cluster[0]
    code, _, err = run(
        processes, node, "workflow", "start", "--type", "ping_pong", "--input", '{"message":"no"}', "--wait"
    )
    assert code == 1 and "failed" in err and 'expected the message "ping"' in err
    code, out, err = run(processes, node, "workflow", "result", "nobody-knows")
    assert (code, out) == (1, "") and err.startswith("✗ there is no workflow 'nobody-knows'\n  • ")
    code, _, err = run(processes, node, "workflow", "start", "--type", "unheard_of")
    assert code == 1 and "'unheard_of' is not registered" in err
    code, _, err = run(processes, node, "workflow", "start", "--type", "ping_pong", "--input", "{")
    assert code == 64 and "not JSON" in err


def test_variable_commands(cluster, processes):
    first, second, _ = cluster
    code, out, _ = run(processes, first, "variable", "put", "flag", "on", "--output", "json")
    revision = json.loads(out)["revision"]
    assert code == 0 and revision > 0
    assert run(processes, second, "variable", "get", "flag") == (0, "on\n", "")
    code, out, _ = run(processes, second, "variable", "get", "flag", "--output", "json")
    assert json.loads(out) == {"key": "flag", "value": "on", "revision": revision}
    code, _, err = run(processes, second, "variable", "cas", "flag", "off", "--revision", revision + 1)
    assert code == 1 and f"its revision is {revision}" in err
    code, out, _ = run(processes, second, "variable", "cas", "flag", "off", "--revision", revision)
    assert code == 0
    assert run(processes, first, "variable", "delete", "flag") == (0, "deleted\n", "")
    assert run(processes, first, "variable", "delete", "flag") == (0, "there was no such variable\n", "")
    code, _, err = run(processes, first, "variable", "get", "flag")
    assert code == 1 and err.startswith("✗ there is no variable 'flag'")


def test_cluster_status(cluster, processes):
    code, out, _ = run(processes, cluster[2], "cluster", "status", "--output", "json")
    status = json.loads(out)
    assert code == 0 and {m["address"] for m in status["members"]} == {n.address for n in cluster}
    assert all(sum(r["voter"] for r in g["replicas"]) == 3 for g in status["groups"])
    code, out, _ = run(processes, cluster[2], "cluster", "status")
    lines = out.splitlines()
    assert code == 0 and lines[1].split()[:4] == ["ID", "ADDRESS", "GROUP", "ROLE"]
    assert len(lines) == 2 + 3 * 2 and sum("Leader" in line for line in lines) == 2


def test_no_node_there(processes):
    address = f"127.0.0.1:{free_port()}"
    code, out, err = processes.run("cluster", "status", "--address", address)
    assert (code, out) == (1, "") and "connection refused" in err and f"Check that a node runs at {address}" in err
