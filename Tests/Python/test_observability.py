"""What operators and their tools see: the admin listener, gRPC health and reflection."""

import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import grpc
import pytest
import raftoral_pb2 as pb
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from nodes import Processes, failure, free_port, wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 90


def admin_node(processes, *flags):
    node = processes.node("--admin-address", "127.0.0.1:0", *flags)

    def address():
        found = re.search(r"Admin server listening on http://127.0.0.1:(\d+)", node.out.text)
        assert found or node.is_running, node.err.text
        return found and int(found[1])

    node.admin_port = wait_for("the admin server listens", address, PATIENCE)
    return node


@pytest.fixture(scope="module")
def node(program, tmp_path_factory):
    started = Processes(program, tmp_path_factory.mktemp("admin"))
    try:
        yield admin_node(started, "--bootstrap").wait_until_running(PATIENCE)
    finally:
        started.end_all()


def ask(node, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", node.admin_port, timeout=PATIENCE)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


def wait_until_ready(node):
    wait_for("the node is ready", lambda: ask(node, "/readyz")[0] == 200, PATIENCE)


def samples(text):
    """Names with labels, and their values."""
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def test_metrics_pass_promtool(node):
    promtool = subprocess.run([REPOSITORY / "scripts/promtool.sh"], capture_output=True, text=True, check=True).stdout.strip()
    node.variables.Put(pb.PutRequest(key="a", value=b"1"), timeout=PATIENCE)
    status, kind, text = ask(node, "/metrics")
    assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = REPOSITORY / "docs/monitoring/alerts.yml"
    checked = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_metrics_tell_what_happens(node):
    before = samples(ask(node, "/metrics")[2])
    node.variables.Put(pb.PutRequest(key="a", value=b"1"), timeout=PATIENCE)
    node.variables.Get(pb.GetRequest(key="a"), timeout=PATIENCE)
    assert failure(lambda: node.variables.Put(pb.PutRequest(), timeout=PATIENCE)).code() == grpc.StatusCode.INVALID_ARGUMENT
    after = samples(ask(node, "/metrics")[2])

    def growth(name):
        return after.get(name, 0) - before.get(name, 0)

    put = 'method="/raftoral.VariableService/Put"'
    assert growth(f"raftoral_grpc_server_started_total{{{put}}}") == 2
    assert growth(f'raftoral_grpc_server_handled_total{{{put},code="OK"}}') == 1
    assert growth(f'raftoral_grpc_server_handled_total{{{put},code="INVALID_ARGUMENT"}}') == 1
    assert growth(f"raftoral_grpc_server_handling_seconds_count{{{put}}}") == 2
    assert growth("raftoral_proposal_seconds_count") >= 1
    assert growth("raftoral_read_seconds_count") >= 1
    assert growth("raftoral_log_write_seconds_count") >= 1
    assert growth("raftoral_wire_received_bytes_total") > 0
    assert growth("raftoral_wire_sent_bytes_total") > 0
    assert growth('raftoral_raft_applied_index{group="1"}') >= 1
    assert after['raftoral_raft_role{group="1",role="leader"}'] == 1
    assert after['raftoral_raft_has_leader{group="0"}'] == 1
    assert after["raftoral_loop_lag_seconds_count"] > 0
    assert after["raftoral_loop_idle_seconds_total"] > 0
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert after["process_open_fds"] > 3
    assert after["process_cpu_seconds_total"] > 0
    assert after["process_start_time_seconds"] > 1e9


def test_every_metric_of_dashboard_and_alerts_exists(node):
    names = set(re.findall(r"^# TYPE (\S+)", ask(node, "/metrics")[2], re.M))
    # Only with TLS, where there are peers, or on a leader with followers.
    names |= {
        "raftoral_tls_certificate_expiry_seconds", "raftoral_tls_handshakes_total",
        "raftoral_peer_messages_sent_total", "raftoral_peer_messages_received_total",
        "raftoral_raft_replication_lag_entries",
    }
    used = set()
    for file in ("alerts.yml", "dashboard.json"):
        used |= set(re.findall(r"\b((?:raftoral|process)_[a-z_]+)\b", (REPOSITORY / "docs/monitoring" / file).read_text()))
    used = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in names else name for name in used}
    assert used and used <= names, used - names


def test_health_and_version_pages(node):
    wait_until_ready(node)
    assert ask(node, "/livez") == (200, "text/plain; charset=utf-8", "ok\n")
    assert ask(node, "/readyz")[2] == "ok\n"
    status, kind, text = ask(node, "/version")
    assert (status, kind) == (200, "application/json")
    assert json.loads(text)["version"] == node.status().version
    status, kind, text = ask(node, "/debug/state")
    state = json.loads(text)
    assert status == 200 and state["isReady"] and state["nodeID"] == 1
    assert {group["groupID"]: group["role"] for group in state["groups"]} == {0: "Leader", 1: "Leader"}


def test_other_paths_and_methods(node):
    assert ask(node, "/")[0] == 200
    assert ask(node, "/nothing")[0] == 404
    assert ask(node, "/metrics?x=1")[0] == 200
    assert ask(node, "/metrics", "HEAD") == (200, "text/plain; version=0.0.4; charset=utf-8", "")
    assert ask(node, "/metrics", "POST", "x" * 100_000)[0] == 405
    assert ask(node, "/livez")[0] == 200


def test_curl(node):
    assert shutil.which("curl")
    done = subprocess.run(
        ["curl", "-sS", "-f", f"http://127.0.0.1:{node.admin_port}/livez"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, "ok\n")


def test_admin_connections_are_bounded(node):
    """Silent connections fill the listener; they are cut in time, and the node serves on."""
    silent = []
    try:
        for _ in range(200):
            connection = socket.create_connection(("127.0.0.1", node.admin_port), timeout=PATIENCE)
            connection.sendall(b"GET /met")
            silent.append(connection)
        assert node.status(timeout=PATIENCE).node_id == 1
        # Far more than the timeout of silence, for a machine that is busy.
        wait_for("the listener answers again", lambda: answers(node), PATIENCE)
    finally:
        for connection in silent:
            connection.close()
    open_now = samples(ask(node, "/metrics")[2])["process_open_fds"]
    assert open_now < 200


def answers(node):
    try:
        return ask(node, "/livez")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_garbage_on_the_admin_port(node):
    for bytes_ in (b"\x16\x03\x01" * 1000, b"\0" * 70_000, b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", node.admin_port), timeout=PATIENCE) as connection:
            try:
                connection.sendall(bytes_)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
    assert ask(node, "/livez")[0] == 200


def test_admin_address_in_use(processes):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = processes.node("--bootstrap", "--admin-address", f"127.0.0.1:{taken.getsockname()[1]}")
        assert node.wait(PATIENCE) == 1
    assert "✗ Cannot serve operators: 127.0.0.1" in node.err.text
    assert "is in use" in node.err.text


def test_a_node_that_starts_is_alive_and_not_ready(processes):
    node = admin_node(processes, "--peers", f"127.0.0.1:{free_port()}", "--discovery-timeout", "600")
    assert ask(node, "/livez")[0] == 200
    assert ask(node, "/readyz") == (503, "text/plain; charset=utf-8", "the node is starting\n")
    assert ask(node, "/debug/state")[0] == 503


# gRPC health


def health(node):
    return health_pb2_grpc.HealthStub(node.channel)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_check(node):
    wait_until_ready(node)
    for service in ("", "raftoral.WorkflowService", "raftoral.VariableService", "raftoral.RaftService", "grpc.health.v1.Health"):
        answer = health(node).Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        assert answer.status == SERVING, service
    unknown = failure(lambda: health(node).Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=PATIENCE))
    assert unknown.code() == grpc.StatusCode.NOT_FOUND


def test_health_watch_of_unknown_service(node):
    watch = health(node).Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_health_without_a_majority(processes):
    """A node that loses its leader says so, and that it is back."""
    first = admin_node(processes, "--bootstrap").wait_until_running(PATIENCE)
    second = processes.node("--peers", first.address).wait_until_running(PATIENCE)
    wait_for("two voters", lambda: sum(r.voter for r in first.group().replicas) == 2, PATIENCE)
    wait_until_ready(first)
    watch = health(first).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == SERVING
    second.send(signal.SIGSTOP)
    try:
        assert next(watch).status == NOT_SERVING
        wait_for("not ready", lambda: ask(first, "/readyz")[0] == 503, PATIENCE)
        assert "has no leader" in ask(first, "/readyz")[2]
        variables = health_pb2.HealthCheckRequest(service="raftoral.VariableService")
        assert health(first).Check(variables, timeout=PATIENCE).status == NOT_SERVING
    finally:
        second.send(signal.SIGCONT)
    assert next(watch).status == SERVING
    watch.cancel()


def test_health_watch_ends_with_the_node(processes):
    node = processes.node("--bootstrap").wait_until_running(PATIENCE)
    watch = health(node).Watch(health_pb2.HealthCheckRequest(service="raftoral.RaftService"))
    assert next(watch).status == SERVING
    node.send(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    ended = failure(lambda: next(watch))
    assert ended.code() == grpc.StatusCode.UNAVAILABLE and "shutting down" in ended.details()
    assert node.wait(PATIENCE) == 0


# Reflection


def test_reflection_describes_every_service(node):
    database = ProtoReflectionDescriptorDatabase(node.channel)
    services = set(database.get_services())
    assert services == {
        "raftoral.RaftService", "raftoral.WorkflowService", "raftoral.VariableService", "raftoral.ClusterService",
        "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = descriptor_pool.DescriptorPool(database)
    for name in services:
        service = pool.FindServiceByName(name)
        assert service.methods, name
    put = pool.FindServiceByName("raftoral.VariableService").FindMethodByName("Put")
    assert [field.name for field in put.input_type.fields][:2] == ["key", "value"]
    assert pool.FindMethodByName("raftoral.VariableService.Put").name == "Put"


def test_reflection_errors(node):
    stub = reflection_pb2_grpc.ServerReflectionStub(node.channel)
    request = reflection_pb2.ServerReflectionRequest
    questions = [
        request(file_by_filename="nothing.proto"), request(file_containing_symbol="no.Such"), request(host="here"),
        request(file_containing_extension=reflection_pb2.ExtensionRequest(containing_type="raftoral.PutRequest", extension_number=1)),
        request(all_extension_numbers_of_type="raftoral.PutRequest"), request(list_services="*", host="there"),
    ]
    answers = list(stub.ServerReflectionInfo(iter(questions), timeout=PATIENCE))
    kinds = [answer.WhichOneof("message_response") for answer in answers]
    assert kinds == ["error_response"] * 4 + ["all_extension_numbers_response", "list_services_response"]
    assert [a.error_response.error_code for a in answers[:4]] == [5, 5, 3, 5]
    assert answers[5].valid_host == "there" and answers[5].original_request == questions[5]


def test_reflection_v1(node):
    call = node.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="raftoral.PutRequest.key")
    (answer,) = call(iter([question]), timeout=PATIENCE)
    assert len(answer.file_descriptor_response.file_descriptor_proto) == 1


def test_reflection_of_garbage(node):
    call = node.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    for garbage in (b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x08" + b"\x80" * 12):
        failed = failure(lambda: list(call(iter([garbage]), timeout=PATIENCE)))
        assert failed.code() == grpc.StatusCode.INVALID_ARGUMENT
