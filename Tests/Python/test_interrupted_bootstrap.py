"""A bootstrap that was interrupted after its groups had begun and before the node's identity said so."""

import struct

import pytest

HEADER_BYTE_COUNT, GROUP_COUNT = 16, 2


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def without_groups(identity):
    """The identity file as it was before the groups had begun: docs/disk-format.md."""
    payload = identity[HEADER_BYTE_COUNT:-4]
    assert payload[-8 * GROUP_COUNT - 1] == GROUP_COUNT
    payload = payload[: -8 * GROUP_COUNT - 1] + b"\0"
    file = identity[:12] + struct.pack("<I", len(payload)) + payload
    return file + struct.pack("<I", crc32c(file))


@pytest.fixture
def interrupted(processes):
    """The data directory."""
    data = processes.directory / "data"
    node = processes.node("--bootstrap", "--data-dir", data).wait_until_running()
    node.end()
    file = data / "identity"
    file.write_bytes(without_groups(file.read_bytes()))
    return data


def test_bootstrapping_again_comes_to_its_end(processes, interrupted):
    node = processes.node("--bootstrap", "--data-dir", interrupted).wait_until_running()
    assert [g.group_id for g in node.status().groups] == [0, 1]
    assert all(g.leader_node_id == 1 for g in node.status().groups)


def test_joining_with_the_leftovers_is_refused_every_time(processes, interrupted):
    other = processes.node("--bootstrap").wait_until_running()
    for _ in range(2):
        joiner = processes.node("--peers", other.address, "--data-dir", interrupted)
        assert joiner.wait() == 1
        assert "holds the beginning of another cluster" in joiner.err.text
    assert len(other.status().members) == 1
