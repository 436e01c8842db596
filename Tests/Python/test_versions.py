"""Nodes of the previous version beside those of this one, under load. `make versions` builds that version from git and runs
this; RAFTORAL_PREVIOUS is its program."""

import os
import pathlib
import random
import signal

import pytest
from nodes import Processes, leader_and_followers, wait_for, wait_for_voters
from test_kill_nine import Load, check_digests, check_results, check_values

PREVIOUS = os.environ.get("RAFTORAL_PREVIOUS")
pytestmark = pytest.mark.skipif(not PREVIOUS, reason="RAFTORAL_PREVIOUS is not set: make versions")


@pytest.fixture
def previous(tmp_path):
    """Starts programs of the previous version."""
    started = Processes(pathlib.Path(PREVIOUS).resolve(), tmp_path)
    yield started
    started.end_all()


class Cluster:
    def __init__(self, nodes, chance):
        self.nodes, self.chance = nodes, chance
        self.load = Load([node.address for node in nodes], chance)

    def exchange(self, place, version):
        """As docs/operations.md has it: end one node, start the other program on its data, wait until it is not behind."""
        node = self.nodes[place]
        node.send(signal.SIGTERM)
        assert node.wait() == 0, node.err.text
        self.nodes[place] = version.node(port=node.port).wait_until_running()
        goal = {g.group_id: g.applied_index for n in self.nodes for g in n.status().groups}
        wait_for(
            "it has caught up",
            lambda: all(g.applied_index >= goal[g.group_id] for g in self.nodes[place].status().groups))
        self.goes_on()

    def goes_on(self):
        begin, puts = len(self.load.acknowledged), self.load.put_count
        wait_for(
            "the load goes on",
            lambda: self.load.failures or (len(self.load.acknowledged) > begin + 10 and self.load.put_count > puts + 10))
        assert not self.load.failures, self.load.failures

    def check(self):
        self.load.stop()
        assert not self.load.failures, self.load.failures
        addresses = [node.address for node in self.nodes]
        check_results(self.load.acknowledged, addresses, self.chance)
        check_values(self.load, addresses, self.chance)
        check_digests(self.nodes)


def listed_levels(program, node):
    code, out, err = program.run("cluster", "members", "--address", node.address)
    assert code == 0, out + err
    return out


def test_rolling_upgrade_and_the_way_back(processes, previous):
    cluster = Cluster(previous.cluster(3), random.Random(1))
    try:
        old_level = cluster.nodes[0].status().protocol_level
        cluster.goes_on()
        leader, _ = leader_and_followers(cluster.nodes)
        # A follower, then the leader; the first goes back while the last is still old, and forth again.
        second = cluster.nodes.index(leader)
        first, third = (place for place in range(3) if place != second)
        for place, version in [
            (first, processes), (second, processes), (first, previous), (first, processes), (third, processes)
        ]:
            cluster.exchange(place, version)
            # Programs of both versions speak to nodes of both.
            for program in (previous, processes):
                for node in cluster.nodes:
                    assert listed_levels(program, node).count("127.0.0.1:") >= 3
        level = cluster.nodes[0].status().protocol_level
        assert level >= old_level

        # All are new: back is refused once the level has risen, by name, and works while it has not.
        node = cluster.nodes[first]
        node.send(signal.SIGTERM)
        assert node.wait() == 0
        back = previous.node(port=node.port)
        wait_for("it runs or has ended", lambda: "Press Ctrl+C" in back.out.text or not back.is_running)
        if level > old_level:
            assert back.wait() == 1
            assert "too old for its cluster" in back.err.text or "format version" in back.err.text, back.err.text
        else:
            assert back.is_running, back.err.text
        back.end()
        cluster.nodes[first] = processes.node(port=node.port).wait_until_running()
        cluster.goes_on()
    finally:
        cluster.load.stop()
    cluster.check()


def test_nodes_of_both_versions_join_and_take_over(processes, previous):
    cluster = Cluster([previous.node("--bootstrap").wait_until_running()], random.Random(2))
    try:
        for version in (processes, previous, processes):
            flags = ("--peers", cluster.nodes[0].address, "--discovery-timeout", 300)
            cluster.nodes.append(version.node(*flags).wait_until_running())
            cluster.goes_on()
        wait_for_voters(cluster.nodes[0], 4)
    finally:
        cluster.load.stop()
    cluster.check()


def test_a_backup_of_the_previous_version_is_restored(processes, previous):
    nodes = previous.cluster(1)
    cluster = Cluster(nodes, random.Random(3))
    cluster.goes_on()
    cluster.load.stop()
    code, out, err = previous.run("backup", "--out", "old.sqlite", "--address", nodes[0].address)
    assert code == 0, out + err
    node = nodes[0]
    node.end()
    code, out, err = processes.run(
        "restore", "--from", "old.sqlite", "--data-dir", "restored", "--address", node.address)
    assert code == 0, out + err
    cluster.nodes = [processes.node("--data-dir", "restored", port=node.port).wait_until_running()]
    cluster.check()
