"""TLS, certificates and tokens: with grpcio, openssl s_client and curl, and what is said when they do not fit."""

import hashlib
import os
import pathlib
import signal
import socket
import ssl
import subprocess

import grpc
import pytest
import raftoral_pb2 as pb
import raftoral_pb2_grpc as rpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nodes import failure, free_port, many_descriptors, wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 90


def make_certificates(folder, **environment):
    subprocess.run(
        [REPOSITORY / "scripts/certs.sh", folder], env={**os.environ, **environment}, check=True, capture_output=True,
        timeout=PATIENCE,
    )
    return pathlib.Path(folder)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certs"), CLIENT="ada")


@pytest.fixture(scope="module")
def expired(certs, tmp_path_factory):
    """Certificates of the same CA: one whose time is over, and one whose time has not come."""
    folder = tmp_path_factory.mktemp("expired")
    run = lambda *command: subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE, cwd=folder)
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=old", "-keyout", "old.key", "-out", "old.csr")
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n"
        "[p]\ncommonName=supplied\n"
    )
    for name, first, last in (("old", "20200101000000Z", "20210101000000Z"), ("early", "20900101000000Z", "20910101000000Z")):
        (folder / "index").write_text("")
        run(
            "openssl", "ca", "-batch", "-config", "ca.cnf", "-cert", certs / "ca.pem", "-keyfile", certs / "ca.key",
            "-startdate", first, "-enddate", last, "-in", "old.csr", "-out", f"{name}.pem", "-notext",
        )
    return folder


def server_flags(certs):
    return ["--tls-cert", certs / "node.pem", "--tls-key", certs / "node.key", "--tls-ca", certs / "ca.pem"]


def peer_flags(certs):
    return ["--peer-tls-cert", certs / "peer.pem", "--peer-tls-key", certs / "peer.key", "--peer-tls-ca", certs / "peer-ca.pem"]


def channel(node, ca, certificate=None, options=()):
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(ca).read_bytes(),
        private_key=certificate and certificate.with_suffix(".key").read_bytes(),
        certificate_chain=certificate and certificate.read_bytes(),
    )
    return grpc.secure_channel(node.address, credentials, options=list(options))


def put(open_channel, key="k", **more):
    return rpc.VariableServiceStub(open_channel).Put(pb.PutRequest(key=key, value=b"1"), timeout=PATIENCE, **more)


def start(processes, *flags, port=None):
    return processes.node(*flags, port=port).wait_until_running(PATIENCE)


def logged(node, text):
    return wait_for(f"'{text}' in the log", lambda: text in node.err.text, PATIENCE)


def test_tls_with_grpcio_openssl_and_curl(processes, certs):
    node = start(processes, "--bootstrap", *server_flags(certs))
    with channel(node, certs / "ca.pem") as secure:
        assert put(secure).revision == 1
        large = os.urandom(900_000)
        stub = rpc.VariableServiceStub(secure)
        stub.Put(pb.PutRequest(key="large", value=large), timeout=PATIENCE)
        assert stub.Get(pb.GetRequest(key="large"), timeout=PATIENCE).value == large
    # Who speaks cleartext, or believes other CAs, gets nothing.
    assert failure(lambda: put(node.channel)).code() == grpc.StatusCode.UNAVAILABLE
    with channel(node, certs / "peer-ca.pem") as unbelieving:
        assert failure(lambda: put(unbelieving)).code() == grpc.StatusCode.UNAVAILABLE
    logged(node, "refused a connection")

    def s_client(*flags):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", node.address, "-CAfile", certs / "ca.pem", *flags],
            input=b"", capture_output=True, timeout=PATIENCE,
        )
        return (done.stdout + done.stderr).decode()

    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        text = s_client(version, "-alpn", "h2")
        assert "Verify return code: 0 (ok)" in text and "ALPN protocol: h2" in text and name in text, text
    assert "ALPN protocol: h2" not in s_client("-alpn", "http/1.1")
    old = s_client("-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2")
    assert "ALPN protocol: h2" not in old
    done = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", certs / "ca.pem", f"https://{node.address}/"],
        capture_output=True, text=True, timeout=PATIENCE,
    )
    assert "This server speaks gRPC over HTTP/2" in done.stdout, done


@pytest.mark.parametrize("stage", ["nothing", "a part of the first record"])
def test_thousands_of_callers_who_never_finish_their_handshake(processes, certs, stage):
    """Each is cut, the oldest first when there are too many; others get in meanwhile."""
    node = start(processes, "--bootstrap", *server_flags(certs))
    host, port = node.address.rsplit(":", 1)
    callers = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(many_descriptors(2000))]
    for caller in callers:
        if stage != "nothing":
            caller.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    for number in range(20):
        # A connection of its own each time.
        with channel(node, certs / "ca.pem", options=[("grpc.use_local_subchannel_pool", 1)]) as secure:
            assert put(secure, key=f"meanwhile-{number}").revision > 0
    memory = next(line for line in open(f"/proc/{node.process.pid}/status") if line.startswith("VmRSS"))
    assert int(memory.split()[1]) < 400 << 10, memory
    for caller in callers:
        try:
            while caller.recv(4096):
                pass
        except ConnectionResetError:
            pass
        caller.close()
    with channel(node, certs / "ca.pem") as secure:
        assert put(secure).revision > 0


def test_mutual_tls(processes, certs, expired):
    node = start(processes, "--bootstrap", *server_flags(certs), "--tls-client-auth", "required")
    with channel(node, certs / "ca.pem", certs / "client.pem") as known:
        assert put(known).revision == 1
    with channel(node, certs / "ca.pem") as unknown:
        assert failure(lambda: put(unknown)).code() == grpc.StatusCode.UNAVAILABLE
    logged(node, "peer did not return a certificate")
    with channel(node, certs / "ca.pem", certs / "peer.pem") as stranger:
        assert failure(lambda: put(stranger)).code() == grpc.StatusCode.UNAVAILABLE
    logged(node, "unable to get local issuer certificate")
    with channel(node, certs / "ca.pem", expired / "old.pem") as old:
        assert failure(lambda: put(old)).code() == grpc.StatusCode.UNAVAILABLE
    logged(node, "certificate has expired")
    code, out, err = processes.run(
        "variable", "get", "k", "--address", node.address, "--tls-ca", certs / "ca.pem", "--tls-cert", certs / "client.pem",
        "--tls-key", certs / "client.key", within=PATIENCE,
    )
    assert code == 0, err
    code, out, err = processes.run("variable", "get", "k", "--address", node.address, "--tls-ca", certs / "ca.pem", within=PATIENCE)
    assert code == 1 and "certificate required" in err, err
    code, out, err = processes.run("variable", "get", "k", "--address", node.address, "--tls-ca", certs / "peer-ca.pem", within=PATIENCE)
    assert code == 1 and "its certificate is not accepted: unable to get local issuer certificate" in err, err


def test_the_name_is_checked(processes, certs, tmp_path):
    other = make_certificates(tmp_path / "other", NAMES="elsewhere.example")
    node = start(processes, "--bootstrap", *server_flags(other))
    code, _, err = processes.run("variable", "get", "k", "--address", node.address, "--tls-ca", other / "ca.pem", within=PATIENCE)
    assert code == 1 and "IP address mismatch" in err, err


@pytest.mark.parametrize("kind", ["expired", "foreign key", "garbage", "missing", "no key", "peer without TLS", "rules that let no node join", "no CA"])
def test_files_that_cannot_be_used(processes, certs, expired, tmp_path, kind):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing of use\n")
    cert = ["--tls-cert", certs / "node.pem"]
    flags, text = {
        "expired": (["--tls-cert", expired / "old.pem", "--tls-key", expired / "old.key"], "it expired"),
        "foreign key": ([*cert, "--tls-key", certs / "client.key"], "the key does not belong to the certificate"),
        "garbage": (["--tls-cert", garbage, "--tls-key", certs / "node.key"], "it holds no certificate in PEM form"),
        "missing": ([*cert, "--tls-key", tmp_path / "nothing"], "no such file"),
        "no key": (cert, "needs its --tls-key"),
        "peer without TLS": (peer_flags(certs), "--peer-tls-cert needs --tls-cert"),
        "rules that let no node join": (["--access-file", garbage], "needs --cluster-token-file or --peer-tls-cert"),
        "no CA": ([*cert, "--tls-key", certs / "node.key", "--tls-client-auth", "required"], "no CA is given"),
    }[kind]
    node = processes.node("--bootstrap", *flags)
    assert node.wait(PATIENCE) == 1
    assert "✗ Cannot use the files of TLS or access: " in node.err.text
    assert text.lower() in node.err.text.lower(), node.err.text
    assert "PRIVATE" not in node.err.text


def test_peers_by_certificate(processes, certs):
    both = [*server_flags(certs), *peer_flags(certs)]
    first = start(processes, "--bootstrap", *both)
    second = start(processes, "--peers", first.address, *both)
    with channel(first, certs / "ca.pem") as secure:
        status = rpc.ClusterServiceStub(secure).Status(pb.ClusterStatusRequest(), timeout=PATIENCE)
        assert len(status.members) == 2
        put(secure)
        # A client is no node.
        refused = failure(lambda: rpc.ClusterServiceStub(secure).Join(pb.JoinRequest(address="127.0.0.1:1"), timeout=PATIENCE))
        assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
        assert "for nodes of the cluster" in refused.details()
    # Whoever has another CA's certificate is not let in.
    stranger = processes.node("--peers", first.address, "--discovery-timeout", "3", *server_flags(certs))
    assert stranger.wait(PATIENCE) == 1, stranger.out.text
    assert second.is_running


def test_peers_by_token(processes, tmp_path):
    token, wrong = tmp_path / "token", tmp_path / "wrong"
    token.write_text("a-token-of-the-cluster\n")
    wrong.write_text("another-token-entirely\n")
    first = start(processes, "--bootstrap", "--cluster-token-file", token)
    start(processes, "--peers", first.address, "--cluster-token-file", token)
    assert len(first.status(PATIENCE).members) == 2
    for flags in (["--cluster-token-file", wrong], []):
        stranger = processes.node("--peers", first.address, "--discovery-timeout", "3", *flags)
        assert stranger.wait(PATIENCE) == 1
        assert "for nodes of the cluster" in stranger.err.text, stranger.err.text
    assert put(first.channel).revision >= 1
    for node in processes.started:
        assert "a-token-of" not in node.out.text + node.err.text
        assert "another-token" not in node.out.text + node.err.text


def test_roles(processes, certs, tmp_path):
    tokens = {name: f"token-of-{name}-0123456789" for name in ("reader", "operator", "admin", "narrow")}
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
    access = tmp_path / "access"
    access.write_text(
        "# who may do what\n"
        + "".join(f"token {name} sha256:{digest(tokens[name])} {name}\n" for name in ("reader", "operator", "admin"))
        + f"token narrow sha256:{digest(tokens['narrow'])} operator@VariableService reader@ClusterService\n"
        + "cert ada operator\n"
    )
    cluster_token = tmp_path / "cluster-token"
    cluster_token.write_text("a-token-of-the-cluster\n")
    node = start(
        processes, "--bootstrap", *server_flags(certs), "--tls-client-auth", "optional", "--access-file", access,
        "--cluster-token-file", cluster_token)
    with channel(node, certs / "ca.pem") as secure:
        variables, cluster = rpc.VariableServiceStub(secure), rpc.ClusterServiceStub(secure)
        workflows = rpc.WorkflowServiceStub(secure)
        calls = {
            "get": lambda m: variables.Get(pb.GetRequest(key="k"), timeout=PATIENCE, metadata=m),
            "put": lambda m: variables.Put(pb.PutRequest(key="k", value=b"1"), timeout=PATIENCE, metadata=m),
            "list": lambda m: workflows.ListWorkflows(pb.ListWorkflowsRequest(), timeout=PATIENCE, metadata=m),
            "status": lambda m: cluster.Status(pb.ClusterStatusRequest(), timeout=PATIENCE, metadata=m),
            "remove": lambda m: cluster.Remove(pb.RemoveRequest(node_id=9), timeout=PATIENCE, metadata=m),
            "join": lambda m: cluster.Join(pb.JoinRequest(address="127.0.0.1:1"), timeout=PATIENCE, metadata=m),
        }

        def outcome(call, name):
            try:
                calls[call]([("authorization", f"Bearer {tokens.get(name, 'a-token-nobody-knows')}")] if name else [])
                return "OK"
            except grpc.RpcError as error:
                return error.code().name

        expected = {
            "reader": {"get": "OK", "put": "PERMISSION_DENIED", "list": "OK", "status": "OK", "remove": "PERMISSION_DENIED"},
            "operator": {"get": "OK", "put": "OK", "list": "OK", "status": "OK", "remove": "PERMISSION_DENIED"},
            "admin": {"get": "OK", "put": "OK", "list": "OK", "status": "OK", "remove": "NOT_FOUND"},
            "narrow": {"get": "OK", "put": "OK", "list": "PERMISSION_DENIED", "status": "OK", "remove": "PERMISSION_DENIED"},
            "stranger": dict.fromkeys(["get", "put", "list", "status", "remove"], "UNAUTHENTICATED"),
            None: dict.fromkeys(["get", "put", "list", "status", "remove"], "UNAUTHENTICATED"),
        }
        for name, outcomes in expected.items():
            for call, code in {**outcomes, "join": "UNAUTHENTICATED"}.items():
                assert outcome(call, name) == code, (name, call)
        # Load balancers ask without credentials.
        health = health_pb2_grpc.HealthStub(secure).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert health.status in (1, 2)
    with channel(node, certs / "ca.pem", certs / "client.pem") as ada:
        assert put(ada).revision >= 1
    # The command line.
    token = tmp_path / "token"
    token.write_text(tokens["admin"] + "\n")
    command = ["cluster", "status", "--address", node.address, "--tls-ca", certs / "ca.pem"]
    assert processes.run(*command, "--token-file", token, within=PATIENCE)[0] == 0
    code, _, err = processes.run(*command, within=PATIENCE)
    assert code == 1 and "a bearer token or a client certificate is needed" in err and "--token-file" in err, err
    # A change of the file counts at once; one that cannot be used changes nothing.
    access.write_text(f"token reader sha256:{digest(tokens['reader'])} operator\n")
    node.send(signal.SIGHUP)
    logged(node, "security files have changed and are in force")
    with channel(node, certs / "ca.pem") as secure:
        reader = [("authorization", f"Bearer {tokens['reader']}")]
        assert put(secure, metadata=reader).revision >= 1
        access.write_text("token reader sha256:12 operator\n")
        node.send(signal.SIGHUP)
        logged(node, "line 1: the token of reader is not sha256")
        assert put(secure, metadata=reader).revision >= 1
    assert not any(text in node.out.text + node.err.text for text in tokens.values())


@pytest.mark.parametrize("how", ["SIGHUP", "by itself"])
def test_certificates_are_reloaded(processes, tmp_path, how):
    folder = make_certificates(tmp_path / "certs")
    node = start(processes, "--bootstrap", *server_flags(folder))
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.set_alpn_protocols(["h2"])

    def serial():
        with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.getpeercert()["serialNumber"]

    before = serial()
    with channel(node, folder / "ca.pem") as open_before:
        put(open_before)
        (folder / "node.pem").unlink()
        make_certificates(folder)
        if how == "SIGHUP":
            node.send(signal.SIGHUP)
        wait_for("the new certificate is served", lambda: serial() != before, PATIENCE)
        # The connection goes on.
        put(open_before)
    assert node.is_running


def test_handshakes_that_never_end(processes, certs):
    """Hundreds of callers that say nothing: the others are served meanwhile."""
    node = start(processes, "--bootstrap", *server_flags(certs))
    silent = []
    try:
        for number in range(300):
            caller = socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE)
            if number % 2:
                caller.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
            silent.append(caller)
        with channel(node, certs / "ca.pem") as secure:
            put(secure)
        # Each is cut in its time.
        silent[0].settimeout(PATIENCE)
        assert silent[0].recv(64) == b""
        logged(node, "the handshake was not over in time")
    finally:
        for caller in silent:
            caller.close()
    # The log is not flooded by them.
    assert node.err.text.count("refused a connection") < 100


def test_garbage_instead_of_tls(processes, certs):
    node = start(processes, "--bootstrap", *server_flags(certs))
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"\0" * 70_000):
        with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as caller:
            try:
                caller.sendall(garbage)
                while caller.recv(65536):
                    pass
            except OSError:
                pass
    with channel(node, certs / "ca.pem") as secure:
        put(secure)


def test_open_addresses_are_warned_of(processes):
    warned = processes.node("--bootstrap", "--advertise-address", "127.0.0.1:1", "--listen", f"0.0.0.0:{free_port()}")
    logged(warned, "no TLS: whoever reaches this address or its network can read and change everything")
    quiet = start(processes, "--bootstrap", "--data-dir", "quiet")
    assert "no TLS" not in quiet.err.text
