"""Fixtures: code generated from proto/*.proto, the built program, and clusters of real processes."""

import os
import pathlib
import sys
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
generated = None


def pytest_configure(config):
    os.environ.setdefault("RAFTORAL", str(REPOSITORY / ".build/debug/raftoral"))
    # Before any test module imports the generated code.
    from grpc_tools import protoc

    global generated
    generated = tempfile.TemporaryDirectory(prefix="raftoral-proto-")
    out = pathlib.Path(generated.name)
    proto = REPOSITORY / "proto"
    code = protoc.main(
        ["protoc", f"-I{proto}", f"--python_out={out}", f"--grpc_python_out={out}", *map(str, sorted(proto.glob("*.proto")))]
    )
    if code != 0:
        raise pytest.UsageError("protoc refuses proto/*.proto")
    sys.path.insert(0, str(out))
    sys.path.insert(0, str(pathlib.Path(__file__).parent))


def pytest_unconfigure(config):
    if generated is not None:
        generated.cleanup()


@pytest.fixture(scope="session")
def program():
    path = pathlib.Path(os.environ["RAFTORAL"]).resolve()
    if not path.exists():
        pytest.fail(f"{path} is missing: run 'swift build --product raftoral'")
    return path


@pytest.fixture
def processes(program, tmp_path):
    """Starts programs that are ended with the test."""
    from nodes import Processes

    started = Processes(program, tmp_path)
    yield started
    started.end_all()


@pytest.fixture(scope="module")
def cluster(program, tmp_path_factory):
    """Three nodes that are one cluster, shared by the tests of a module."""
    from nodes import Processes

    started = Processes(program, tmp_path_factory.mktemp("cluster"))
    try:
        yield started.cluster(3)
    finally:
        started.end_all()
