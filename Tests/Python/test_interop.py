"""The cases of the public gRPC interoperability tests (interop-test-descriptions.md), by grpcio against grpc-interop-server."""

import os
import queue
import struct
import subprocess
import tempfile
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
import http2_frames
from http2_frames import *

SERVICE = "/grpc.testing.TestService/"
ZEROS, REQUEST_SIZE, RESPONSE_SIZE = bytes(1 << 20), 271828, 314159
STREAM_REQUESTS, STREAM_RESPONSES = [27182, 8, 1828, 45904], [31415, 9, 2653, 58979]
STATUS_MESSAGE = "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
PATIENCE = 120


def message_classes():
    """From the descriptions, because a package `grpc.testing` would stand in grpcio's own way."""
    proto = Path(__file__).resolve().parents[2] / "proto"
    with tempfile.NamedTemporaryFile() as out:
        arguments = ["protoc", f"-I{proto}", "--include_imports", f"--descriptor_set_out={out.name}"]
        assert protoc.main([*arguments, str(proto / "grpc/testing/test.proto")]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.testing.{name}"))


of_name = message_classes()
Empty, SimpleRequest, SimpleResponse = of_name("Empty"), of_name("SimpleRequest"), of_name("SimpleResponse")
OutputRequest, OutputResponse = of_name("StreamingOutputCallRequest"), of_name("StreamingOutputCallResponse")
InputRequest, InputResponse = of_name("StreamingInputCallRequest"), of_name("StreamingInputCallResponse")


class TestClient:
    __test__ = False

    def __init__(self, port):
        self.port = port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        both = lambda kind, name, request, response: kind(
            SERVICE + name, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        self.empty = both(self.channel.unary_unary, "EmptyCall", Empty, Empty)
        self.unary = both(self.channel.unary_unary, "UnaryCall", SimpleRequest, SimpleResponse)
        self.output = both(self.channel.unary_stream, "StreamingOutputCall", OutputRequest, OutputResponse)
        self.input = both(self.channel.stream_unary, "StreamingInputCall", InputRequest, InputResponse)
        self.full_duplex = both(self.channel.stream_stream, "FullDuplexCall", OutputRequest, OutputResponse)
        self.half_duplex = both(self.channel.stream_stream, "HalfDuplexCall", OutputRequest, OutputResponse)


@pytest.fixture(scope="module")
def client():
    program = Path(os.environ["RAFTORAL"]).with_name("grpc-interop-server")
    server = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    yield TestClient(int(server.stdout.readline()))
    server.kill()
    server.wait()


def simple(size=RESPONSE_SIZE, payload=REQUEST_SIZE, **fields):
    return SimpleRequest(response_size=size, payload={"body": ZEROS[:payload]}, **fields)


def asking(*sizes, payload=0, **fields):
    return OutputRequest(
        response_parameters=[{"size": size} for size in sizes], payload={"body": ZEROS[:payload]}, **fields
    )


def failure(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value


def compressed_flags(client, method, request):
    """Of each message of the answer, which grpcio does not tell."""
    peer = Peer(client.port, PATIENCE, pairs=[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)])
    peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    accept = field(b"grpc-accept-encoding", b"identity, gzip")
    peer.send(frame(HEADERS, END_HEADERS, 1, http2_frames.request(SERVICE.encode() + method, more=accept)))
    peer.send(frame(DATA, END_STREAM, 1, message(request.SerializeToString())))
    data, flags = b"", []
    for kind, frame_flags, stream, payload in peer.frames():
        data += payload if kind == DATA else b""
        if stream == 1 and frame_flags & END_STREAM:
            break
    peer.close()
    while data:
        flag, length = struct.unpack(">BI", data[:5])
        flags.append(flag == 1)
        data = data[5 + length :]
    return flags


def test_empty_unary(client):
    assert client.empty(Empty(), timeout=PATIENCE) == Empty()


def test_large_unary(client):
    answer = client.unary(simple(), timeout=PATIENCE)
    assert answer.payload.type == 0 and answer.payload.body == ZEROS[:RESPONSE_SIZE]


def test_client_compressed_unary(client):
    # The probe: a server that does not look at compression accepts it.
    probe = failure(lambda: client.unary(simple(expect_compressed={"value": True}), timeout=PATIENCE))
    assert probe.code() == grpc.StatusCode.INVALID_ARGUMENT
    compressed = client.unary(
        simple(expect_compressed={"value": True}), timeout=PATIENCE, compression=grpc.Compression.Gzip
    )
    plain = client.unary(simple(expect_compressed={"value": False}), timeout=PATIENCE)
    assert compressed.payload.body == plain.payload.body == ZEROS[:RESPONSE_SIZE]


@pytest.mark.parametrize("is_compressed", [True, False])
def test_server_compressed_unary(client, is_compressed):
    request = simple(payload=1000, response_compressed={"value": is_compressed})
    assert client.unary(request, timeout=PATIENCE).payload.body == ZEROS[:RESPONSE_SIZE]
    assert compressed_flags(client, b"UnaryCall", request) == [is_compressed]


def test_client_streaming(client):
    requests = (InputRequest(payload={"body": ZEROS[:size]}) for size in STREAM_REQUESTS)
    assert client.input(requests, timeout=PATIENCE).aggregated_payload_size == sum(STREAM_REQUESTS)


def test_client_compressed_streaming(client):
    expecting = lambda size, value: InputRequest(payload={"body": ZEROS[:size]}, expect_compressed={"value": value})
    probe = failure(lambda: client.input(iter([expecting(27182, True)]), timeout=PATIENCE))
    assert probe.code() == grpc.StatusCode.INVALID_ARGUMENT
    requests = iter([expecting(27182, True), expecting(45904, True)])
    answer = client.input(requests, timeout=PATIENCE, compression=grpc.Compression.Gzip)
    assert answer.aggregated_payload_size == 73086
    assert client.input(iter([expecting(45904, False)]), timeout=PATIENCE).aggregated_payload_size == 45904


def test_server_streaming(client):
    answers = list(client.output(asking(*STREAM_RESPONSES), timeout=PATIENCE))
    assert [len(answer.payload.body) for answer in answers] == STREAM_RESPONSES


def test_server_compressed_streaming(client):
    request = OutputRequest(
        response_parameters=[
            {"size": 31415, "compressed": {"value": True}},
            {"size": 92653, "compressed": {"value": False}},
        ]
    )
    assert [len(answer.payload.body) for answer in client.output(request, timeout=PATIENCE)] == [31415, 92653]
    assert compressed_flags(client, b"StreamingOutputCall", request) == [True, False]


def test_ping_pong(client):
    requests = queue.Queue()
    answers = client.full_duplex(iter(requests.get, None), timeout=PATIENCE)
    for request, response in zip(STREAM_REQUESTS, STREAM_RESPONSES):
        requests.put(asking(response, payload=request))
        assert len(next(answers).payload.body) == response
    requests.put(None)
    assert list(answers) == []


def test_half_duplex(client):
    requests = [asking(response, payload=request) for request, response in zip(STREAM_REQUESTS, STREAM_RESPONSES)]
    answers = list(client.half_duplex(iter(requests), timeout=PATIENCE))
    assert [len(answer.payload.body) for answer in answers] == STREAM_RESPONSES


def test_empty_stream(client):
    assert list(client.full_duplex(iter([]), timeout=PATIENCE)) == []
    assert list(client.half_duplex(iter([]), timeout=PATIENCE)) == []


def test_custom_metadata(client):
    pairs = [
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    ]
    _, unary = client.unary.with_call(simple(), metadata=pairs, timeout=PATIENCE)
    stream = client.full_duplex(iter([asking(RESPONSE_SIZE, payload=REQUEST_SIZE)]), metadata=pairs, timeout=PATIENCE)
    assert len(next(stream).payload.body) == RESPONSE_SIZE
    assert list(stream) == []
    for call in (unary, stream):
        assert pairs[0] in [tuple(pair) for pair in call.initial_metadata()]
        assert pairs[1] in [tuple(pair) for pair in call.trailing_metadata()]


@pytest.mark.parametrize("text", [STATUS_MESSAGE, SPECIAL_MESSAGE])
def test_status_code_and_special_status_message(client, text):
    status = {"code": 2, "message": text}
    for error in (
        failure(lambda: client.unary(SimpleRequest(response_status=status), timeout=PATIENCE)),
        failure(lambda: list(client.full_duplex(iter([OutputRequest(response_status=status)]), timeout=PATIENCE))),
    ):
        assert error.code() == grpc.StatusCode.UNKNOWN
        assert error.details() == text


@pytest.mark.parametrize("path", [SERVICE + "UnimplementedCall", "/grpc.testing.UnimplementedService/UnimplementedCall"])
def test_unimplemented_method_and_service(client, path):
    method = client.channel.unary_unary(path, Empty.SerializeToString, Empty.FromString)
    assert failure(lambda: method(Empty(), timeout=PATIENCE)).code() == grpc.StatusCode.UNIMPLEMENTED


def test_cancel_after_begin(client):
    call = client.input.future(iter(lambda: InputRequest(payload={"body": ZEROS[:10]}), None))
    call.cancel()
    assert call.cancelled()
    assert call.code() == grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(client):
    requests = queue.Queue()
    requests.put(asking(31415, payload=27182))
    answers = client.full_duplex(iter(requests.get, None), timeout=PATIENCE)
    assert len(next(answers).payload.body) == 31415
    answers.cancel()
    requests.put(None)
    assert failure(lambda: next(answers)).code() == grpc.StatusCode.CANCELLED


def test_timeout_on_sleeping_server(client):
    request = OutputRequest(
        response_parameters=[{"size": 31415, "interval_us": 2_000_000_000}], payload={"body": ZEROS[:27182]}
    )
    call = client.full_duplex(iter([request]), timeout=0.001)
    assert failure(lambda: list(call)).code() == grpc.StatusCode.DEADLINE_EXCEEDED
