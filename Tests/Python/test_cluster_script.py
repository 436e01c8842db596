"""What `make cluster`, `make failover` and `make cluster-stop` do."""

import os
import re
import subprocess

from conftest import REPOSITORY
from nodes import free_port


def test_start_failover_stop(program, tmp_path):
    environment = os.environ | {"RAFTORAL": str(program), "RAFTORAL_CLUSTER": str(tmp_path / "cluster")}

    def script(*arguments):
        done = subprocess.run(
            [REPOSITORY / "scripts/cluster.sh", *map(str, arguments)],
            capture_output=True, text=True, env=environment, timeout=600,
        )
        return done.returncode, done.stdout, done.stderr

    assert script("failover") == (1, "", "cluster: no cluster runs here: start one with 'make cluster'\n")
    assert script("stop") == (0, "no cluster runs here\n", "")
    first = max(free_port() for _ in range(3)) - 2
    code, out, err = script("start", 3, first)
    try:
        assert code == 0, out + err
        assert "✓ 3 nodes are one cluster\n" in out and '{"result":832040}\n' in out
        assert out.count("voter") == 6
        code, _, err = script("start", 3, first)
        assert code == 1 and "a cluster runs already" in err
        code, out, err = script("failover")
        assert code == 0, out + err
        assert "✓ fibonacci(60) = 1548008755920; 60 steps, each recorded once\n" in out
        steps = [int(count) for count in re.findall(r"epoch \d+: (\d+) steps", out)]
        assert sum(steps) == 60 and len(steps) > 1
    finally:
        code, out, err = script("stop")
    assert (code, out.count("stopped")) == (0, 3), out + err
    assert not (tmp_path / "cluster").exists()


def test_start_that_fails_leaves_nothing(program, tmp_path, processes):
    environment = os.environ | {"RAFTORAL": str(program), "RAFTORAL_CLUSTER": str(tmp_path / "cluster")}
    taken = processes.node("--bootstrap").wait_until_running()
    done = subprocess.run(
        [REPOSITORY / "scripts/cluster.sh", "start", "3", str(taken.port - 1)],
        capture_output=True, text=True, env=environment, timeout=600,
    )
    assert done.returncode == 1 and "the address is in use" in done.stderr
    assert not (tmp_path / "cluster").exists()
