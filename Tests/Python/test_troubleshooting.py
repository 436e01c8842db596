"""Each symptom of docs/troubleshooting.md, provoked: the line that the document quotes is the line that one sees."""

import pathlib
import re
import signal

import pytest
from nodes import free_port, wait_for
from test_disks import disks, start  # noqa: F401, fixtures among them
from test_security import certs, expired, make_certificates, server_flags  # noqa: F401, fixtures among them

DOCUMENT = (pathlib.Path(__file__).resolve().parents[2] / "docs/troubleshooting.md").read_text()
provoked = set()


def quoted(heading):
    """The document's box under a heading as a pattern: words in capitals stand for what differs."""
    box = re.search(rf"^### {re.escape(heading)}\n```\n(.*?)\n```$", DOCUMENT, re.M | re.S)
    assert box, f"docs/troubleshooting.md has no section '{heading}' that begins with a box"
    provoked.add(heading)
    literal = [part if place % 2 else re.escape(part) for place, part in enumerate(re.split(r"\b([A-Z]{2,})\b", box[1]))]
    return re.compile("".join("(.+)" if place % 2 else part for place, part in enumerate(literal)))


def fails(processes, *flags):
    program = processes.launch("-a", f"127.0.0.1:{free_port()}", *flags)
    assert program.wait() == 1
    return program.err.text


def test_it_finds_no_peers(processes):
    error = fails(processes, "-p", f"127.0.0.1:{free_port()}", "--discovery-timeout", "1")
    assert quoted("It finds no peers").search(error), error


def test_its_id_is_taken(processes):
    first = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-p", first.address, "-n", "1")
    assert quoted("Its id is taken").search(error), error


def test_it_cannot_bind_its_address(processes):
    first = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-a", first.address, "-b", "--data-dir", "other")
    assert quoted("It cannot bind its address").search(error), error


def test_its_data_directory_is_in_use(processes):
    processes.node("--bootstrap", "--data-dir", "one").wait_until_running()
    error = fails(processes, "-b", "--data-dir", "one")
    assert quoted("Its data directory is in use").search(error), error


def test_its_data_is_damaged(processes):
    node = processes.node("--bootstrap", "--data-dir", "damaged").wait_until_running()
    node.send(signal.SIGTERM)
    assert node.wait() == 0
    identity = processes.directory / "damaged" / "identity"
    content = bytearray(identity.read_bytes())
    content[len(content) // 2] ^= 1
    identity.write_bytes(content)
    error = fails(processes, "--data-dir", "damaged")
    assert quoted("Its data is damaged").search(error), error


def test_the_directory_belongs_to_another_cluster(processes):
    ours = processes.node("--bootstrap", "--data-dir", "ours").wait_until_running()
    ours.send(signal.SIGTERM)
    assert ours.wait() == 0
    theirs = processes.node("--bootstrap").wait_until_running()
    error = fails(processes, "-p", theirs.address, "--data-dir", "ours")
    assert quoted("The directory belongs to another cluster").search(error), error


def test_there_is_no_leader(processes):
    nodes = processes.cluster(3)
    for node in nodes[1:]:
        node.process.kill()
        node.wait()
    code, out, err = processes.run("variable", "put", "k", "v", "--timeout", "60", "--address", nodes[0].address)
    assert (code, out) == (1, "")
    assert quoted("There is no leader").search(err), err


def test_a_majority_is_lost_for_ever(processes):
    nodes = processes.cluster(3)
    for node in nodes[1:]:
        node.end()
    code, _, error = processes.run("variable", "get", "key", "--address", nodes[0].address, "--timeout", 60)
    assert code == 1 and quoted("A majority is lost for ever").search(error), error
    nodes[0].end()
    flags = ("--data-dir", f"raftoral-data/127.0.0.1-{nodes[0].port}", "--address", nodes[0].address)
    code, out, error = processes.run("cluster", "recover", *flags)
    assert code == 1 and "nothing was changed" in error and "What may be lost" in out


def test_a_certificate_has_expired(processes, expired):
    error = fails(processes, "-b", "--tls-cert", expired / "old.pem", "--tls-key", expired / "old.key")
    assert quoted("A certificate has expired").search(error), error


def test_a_certificate_is_of_another_ca(processes, certs):
    node = processes.node("--bootstrap", *server_flags(certs)).wait_until_running()
    code, _, error = processes.run("variable", "get", "k", "--address", node.address, "--tls-ca", certs / "peer-ca.pem")
    assert code == 1 and quoted("A certificate is of another CA").search(error), error


def test_a_certificate_is_of_another_name(processes, tmp_path):
    other = make_certificates(tmp_path / "other", NAMES="elsewhere.example")
    node = processes.node("--bootstrap", *server_flags(other)).wait_until_running()
    code, _, error = processes.run("variable", "get", "k", "--address", node.address, "--tls-ca", other / "ca.pem")
    assert code == 1 and quoted("A certificate is of another name").search(error), error


def test_the_clock_is_wrong(processes, expired):
    error = fails(processes, "-b", "--tls-cert", expired / "early.pem", "--tls-key", expired / "old.key")
    assert quoted("The clock is wrong").search(error), error


def test_the_disk_is_full(processes, disks):
    disk = disks()
    node = start(processes, disk, "--bootstrap").wait_until_running()
    disk.fill()
    # Until what was set aside for what has been accepted is all that is left.
    put = ("variable", "put", "key", "v" * 100_000, "--address", node.address, "--timeout", 10)
    error = wait_for("the disk is full", lambda: next((err for code, _, err in [processes.run(*put)] if code), None))
    assert quoted("The disk is full").search(error), error
    assert processes.run("variable", "get", "key", "--address", node.address)[0] in (0, 1)
    disk.free()
    wait_for("there is room again", lambda: processes.run(*put)[0] == 0)


def test_it_was_removed(processes):
    first = processes.node("--bootstrap").wait_until_running()
    second = processes.node("--peers", first.address).wait_until_running()
    code, _, err = processes.run("cluster", "remove", 2, "--address", first.address)
    assert code == 0, err
    assert second.wait() == 1
    assert quoted("It was removed").search(second.err.text), second.err.text


def test_no_symptom_is_left_out(request):
    """Runs last; alone it has nothing to look at."""
    tests = [item for item in request.session.items if item.module.__name__ == __name__]
    if len(tests) < 3:
        pytest.skip("the other tests of this file were not chosen")
    boxed = set(re.findall(r"^### (.*)\n```", DOCUMENT, re.M))
    assert boxed == provoked
