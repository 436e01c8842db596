"""Our gRPC client against a server of grpcio."""

import os
import subprocess
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest


def raw(message):
    return message


class Echo(grpc.GenericRpcHandler):
    def __init__(self):
        self.lock = threading.Lock()
        self.open_count = 0
        self.handlers = {
            "/echo.Echo/Unary": grpc.unary_unary_rpc_method_handler(lambda request, _: request, raw, raw),
            "/echo.Echo/Stream": grpc.stream_stream_rpc_method_handler(lambda requests, _: requests, raw, raw),
            "/echo.Echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail, raw, raw),
            "/echo.Echo/Never": grpc.unary_unary_rpc_method_handler(self.never, raw, raw),
            "/echo.Echo/OpenCount": grpc.unary_unary_rpc_method_handler(
                lambda _, __: bytes([self.open_count]), raw, raw
            ),
            "/echo.Echo/Metadata": grpc.unary_unary_rpc_method_handler(self.metadata, raw, raw),
        }

    def service(self, call):
        return self.handlers.get(call.method)

    def fail(self, request, context):
        code = next(code for code in grpc.StatusCode if code.value[0] == request[0])
        context.abort(code, "größer als 100%")

    def never(self, _, context):
        ended = threading.Event()

        def end():
            with self.lock:
                self.open_count -= 1
            ended.set()

        with self.lock:
            self.open_count += 1
        # A call that is over already calls nobody back.
        if not context.add_callback(end):
            end()
        ended.wait(600)
        return b""

    def metadata(self, _, context):
        pairs = [pair for pair in context.invocation_metadata() if pair[0] != "user-agent"]
        context.send_initial_metadata(pairs)
        context.set_trailing_metadata(pairs)
        return b""


@pytest.fixture
def foreign_server():
    sizes = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=sizes)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def test_every_kind_of_call(foreign_server):
    client = Path(os.environ["RAFTORAL"]).with_name("grpc-interop-client")
    run = subprocess.run([client, str(foreign_server)], capture_output=True, text=True, timeout=600)
    failed = [line for line in run.stdout.splitlines() if not line.startswith("ok ")]
    assert failed == [] and run.returncode == 0, run.stdout + run.stderr
    assert len(run.stdout.splitlines()) > 30
