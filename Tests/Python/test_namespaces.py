"""docker-compose.yml without a container engine: its own commands on machines with their own address, name and hosts
file (network namespaces), started at once. Then links are cut, healed and slowed under load."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest
import yaml
from namespaces import HERE, Machines
from nodes import Output, wait_for

COMPOSE = yaml.safe_load((pathlib.Path(__file__).resolve().parents[2] / "docker-compose.yml").read_text())
NODES = list(COMPOSE["services"])
PATIENCE = 120


class Cluster:
    def __init__(self, program, directory, machines):
        self.program, self.directory, self.machines, self.running = program, directory, machines, {}

    def words(self, name, words):
        """A command of the compose file, with the machine's volume in place of the container's."""
        volume = self.directory / name
        return [str(self.program) if word == "raftoral" else str(volume) if word == "/data" else word for word in words]

    def start(self, name):
        service = COMPOSE["services"][name]
        assert service["hostname"] == name and service["volumes"] == [f"{name}:/data"]
        process = self.machines.start(
            name, *self.words(name, ["raftoral", *service["command"]]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.out, process.err = Output(process.stdout), Output(process.stderr)
        process.stdout = process.stderr = None
        self.running[name] = process

    def is_healthy(self, name):
        kind, *words = COMPOSE["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        process = self.running[name]
        assert process.poll() is None, f"{name} ended:\n{process.out.text}{process.err.text}"
        return self.run(name, self.words(name, words)).returncode == 0

    def run(self, name, words):
        return subprocess.run(
            self.machines.command(name, *words), capture_output=True, text=True, timeout=PATIENCE, cwd=self.directory)

    def status(self, name):
        done = self.run(name, [self.program, "cluster", "status", "--output", "json"])
        return json.loads(done.stdout) if done.returncode == 0 else None

    def leader(self, name):
        """The host of the leader of the workflows' group, as one node sees it."""
        status = self.status(name)
        group = status and next(g for g in status["groups"] if g["groupID"] == 1)
        if not group or not group["leaderNodeID"]:
            return None
        return next(m["address"] for m in status["members"] if m["nodeID"] == group["leaderNodeID"]).split(":")[0]


@pytest.fixture
def cluster(program, tmp_path):
    machines = Machines([*NODES, "client"])
    try:
        yield Cluster(program, tmp_path, machines)
    finally:
        machines.close()


class RemoteLoad:
    def __init__(self, cluster, seed):
        self.process = cluster.machines.start(
            "client", sys.executable, HERE / "namespace_load.py", seed, *(f"{name}:5001" for name in NODES),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"the load ended at '{word}'; its standard error tells why"
        return answer

    @property
    def count(self):
        return int(self.ask("count"))

    def expect_progress(self, what):
        """The cluster takes new work, from now on."""
        goal = self.count + 20
        wait_for(f"20 workflows are taken {what}", lambda: self.count >= goal, within=PATIENCE)


def test_compose_and_partitions(cluster, capsys):
    seed = int(os.environ.get("RAFTORAL_SEED", random.SystemRandom().randrange(1 << 32)))
    chance = random.Random(seed)
    machines = cluster.machines

    def say(text):
        with capsys.disabled():
            print(text, end="", flush=True)

    say(f"\nthree namespaces, seed {seed}: ")
    began = time.monotonic()
    # All at once, in any order, as compose does.
    for name in chance.sample(NODES, len(NODES)):
        cluster.start(name)
    for name in NODES:
        wait_for(f"{name} is healthy", lambda: cluster.is_healthy(name), within=PATIENCE)

    def all_vote():
        groups = (cluster.status("node2") or {"groups": []})["groups"]
        return len(groups) == 2 and all(sum(r["voter"] for r in g["replicas"]) == 3 for g in groups)

    wait_for("three voters", all_vote, within=PATIENCE)
    members = {m["address"] for m in cluster.status("node3")["members"]}
    assert members == {f"{name}:5001" for name in NODES}
    say(f"up {time.monotonic() - began:.0f} s; ")

    load = RemoteLoad(cluster, seed)
    load.expect_progress("before anything is cut")

    def sides():
        leader = wait_for("a leader", lambda: cluster.leader(chance.choice(NODES)), within=PATIENCE)
        return leader, [name for name in NODES if name != leader]

    leader, others = sides()
    machines.part([leader], others)
    # The old leader may still call itself one; the others have another.
    wait_for("another leader", lambda: cluster.leader(others[0]) not in (None, leader), within=PATIENCE)
    load.expect_progress("without the old leader")
    machines.heal()
    load.expect_progress("with the old leader back")
    say("leader cut off, ")

    leader, others = sides()
    machines.cut(leader, others[0])
    load.expect_progress("with one follower deaf to the leader")
    machines.heal()
    leader, others = sides()
    machines.cut(others[0], leader)
    machines.cut(others[1], leader)
    load.expect_progress("with a leader that hears nobody")
    machines.heal()
    say("one way, ")

    leader, others = sides()
    machines.part([others[0]], [others[1]])
    load.expect_progress("with the followers apart")
    machines.heal()

    # Nobody hears anybody, long enough for every node to notice; then all is well again.
    machines.part(*([name] for name in NODES))
    wait_for(
        "no leader anywhere", lambda: all(cluster.leader(name) is None for name in NODES), within=PATIENCE)
    machines.heal()
    load.expect_progress("after a total partition")
    say("all apart, ")

    leader, others = sides()
    machines.slow(leader, others[0], 40)
    machines.slow(others[1], leader, 40)
    load.expect_progress("over slow links")
    machines.heal()
    load.expect_progress("at the end")
    say("slow links; ")

    assert load.ask("stop") == "stopped"
    count = load.count
    assert load.ask("check") == "checked"
    say(f"{count} workflows, none lost, in {time.monotonic() - began:.0f} s ")
