"""Every way in which a node cannot start: what it says on standard error, with remedies, and exit code 1. Flags
that make no sense have 64, the code of usage errors (sysexits.h)."""

import signal

from nodes import free_port

NO_PEERS = """\
✗ Could not discover any peers: none of 127.0.0.1:PORT answered within 1 s.
  • Check that the peers run and that their addresses in --peers are right.
  • Check that no firewall is between this node and them.
  • For the first node of a new cluster use --bootstrap instead of --peers.
  • When the peers start slowly, raise --discovery-timeout.
"""

ID_EXISTS = """\
✗ Node ID already exists: 1 is, or was, a member of the cluster (asked through 127.0.0.1:PORT). Ids are never used twice.
  • Leave --node-id out to have the next free id assigned.
  • Or choose another --node-id.
  • To restart the node that has this id, start it with its old --data-dir.
"""

ADDRESS_IN_USE = """\
✗ Cannot bind 127.0.0.1:PORT: the address is in use.
  • Another process listens there, perhaps an earlier node: stop it, or choose another --address.
  • 'ss -ltnp' shows who listens.
"""

NOTHING_TO_START_FROM = """\
✗ Nothing to start from: no --bootstrap, no --peers, and the data directory holds no node.
  • For the first node of a new cluster: add --bootstrap.
  • To join a cluster: add --peers with the address of at least one of its nodes.
  • To restart a node: give the --data-dir that it was started with.
"""


def fails(processes, *flags):
    """Standard error of a node that ends by itself with code 1."""
    program = processes.launch(*flags)
    assert program.wait() == 1
    assert "is running!" not in program.out.text
    return program.err.text


def here():
    return f"127.0.0.1:{free_port()}"


def test_no_peers_discovered(processes):
    silent = free_port()
    error = fails(processes, "-a", here(), "-p", f"127.0.0.1:{silent}", "--discovery-timeout", "1")
    assert error == NO_PEERS.replace("PORT", str(silent))


def test_node_id_already_exists(processes):
    first = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-a", here(), "-p", first.address, "-n", "1")
    assert error == ID_EXISTS.replace("PORT", str(first.port))


def test_node_id_of_a_removed_node_is_not_used_again(processes):
    first = processes.node("--bootstrap").wait_until_running()
    second = processes.node("--peers", first.address).wait_until_running()
    code, out, err = processes.run("cluster", "remove", 2, "--address", first.address)
    assert (code, out) == (0, "node 2 is removed\n"), err
    assert second.wait() == 1
    assert "✗ Node 2 was removed from its cluster and has stopped." in second.err.text
    error = fails(processes, "-a", here(), "-p", first.address, "-n", "2")
    assert error.startswith("✗ Node ID already exists: 2 is, or was, a member")
    third = processes.node("--peers", first.address).wait_until_running()
    assert "   Auto-assigned node ID: 3\n" in third.out.text


def test_address_in_use(processes):
    first = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-a", first.address, "-b", "--data-dir", "elsewhere")
    assert error == ADDRESS_IN_USE.replace("PORT", str(first.port))


def test_address_of_another_machine(processes):
    error = fails(processes, "-a", "192.0.2.1:5001", "-b")
    assert error.startswith("✗ Cannot bind 192.0.2.1:5001: ") and "--advertise-address" in error


def test_nothing_to_start_from(processes):
    assert fails(processes, "-a", here()) == NOTHING_TO_START_FROM


def test_data_directory_of_a_running_node(processes):
    processes.node("--bootstrap", "--data-dir", "shared").wait_until_running()
    error = fails(processes, "-a", here(), "-b", "--data-dir", "shared")
    assert error == (
        "✗ shared is in use by another process.\n"
        "  • Stop that process, or give this node a --data-dir of its own.\n"
    )


def test_directory_with_other_files(processes):
    directory = processes.directory / "photos"
    directory.mkdir()
    (directory / "holiday.jpg").write_bytes(b"not ours")
    error = fails(processes, "-a", here(), "-b", "--data-dir", "photos")
    assert error.startswith("✗ photos is not a data directory: it holds holiday.jpg and no identity file.\n  • ")
    assert sorted(p.name for p in directory.iterdir()) == ["holiday.jpg"]


def test_data_directory_that_is_a_file(processes):
    (processes.directory / "file").write_text("not a directory")
    error = fails(processes, "-a", here(), "-b", "--data-dir", "file")
    assert error.startswith("✗ ") and "file" in error and "\n  • " in error


def test_damaged_identity(processes):
    node = processes.node("--bootstrap", "--data-dir", "damaged").wait_until_running()
    node.send(signal.SIGTERM)
    assert node.wait() == 0
    identity = processes.directory / "damaged" / "identity"
    content = bytearray(identity.read_bytes())
    content[len(content) // 2] ^= 1
    identity.write_bytes(content)
    error = fails(processes, "-a", node.address, "--data-dir", "damaged")
    assert error.startswith("✗ damaged/identity is damaged at byte ") and "\n  • " in error


def test_data_directory_of_another_cluster(processes):
    ours = processes.node("--bootstrap", "--data-dir", "ours").wait_until_running()
    ours.send(signal.SIGTERM)
    assert ours.wait() == 0
    theirs = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-a", ours.address, "-p", theirs.address, "--data-dir", "ours")
    assert error.startswith("✗ The data directory ours belongs to another cluster: ") and error.count("\n  • ") == 2


def test_bad_flags(processes):
    for flags, words in [
        (("-a", "nowhere", "-b"), "nowhere"),
        (("-a", "127.0.0.1:70000", "-b"), "70000"),
        (("-b",), "--address"),
        (("-a", here(), "-b", "-p", here()), "give one of them"),
        (("-a", here(), "-b", "-n", "0"), "--node-id is from 1"),
        (("-a", here(), "-b", "-n", "-1"), "-n <node-id>"),
        (("-a", here(), "-b", "--discovery-timeout", "0"), "--discovery-timeout"),
        (("-a", here(), "-b", "--in-memory", "--data-dir", "x"), "--in-memory"),
        (("-a", here(), "-b", "--log-level", "loud"), "loud"),
        (("-a", here(), "-b", "--log-format", "xml"), "xml"),
        (("-a", here(), "-b", "--unknown"), "--unknown"),
        (("-a", here(), "-p", "one,two"), "one,two"),
    ]:
        code, out, err = processes.run(*flags)
        assert (code, out) == (64, ""), flags
        assert err.startswith("Error: ") and words in err and "Usage: " in err, err
