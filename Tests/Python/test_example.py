"""The programs of docs/embedding.md."""

import re
import subprocess


def test_greeter(program, tmp_path):
    example = program.parent / "greeter"
    expected = (
        r"node 1 of cluster (\w+) serves at 127\.0\.0\.1:\d+\n"
        r"Hello, Ada!\n"
        r"Guten Tag, Grace!\n"
        r"  step 0: translate\n  step 1: count\n  step 2: sleep\n"
    )
    clusters = set()
    for _ in range(2):
        done = subprocess.run([example], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        match = re.fullmatch(expected, done.stdout)
        assert match, done.stdout
        clusters.add(match[1])
    # The second run resumed the first one's node.
    assert len(clusters) == 1


def test_caller(program, processes):
    nodes = processes.cluster(3)
    nodes[2].process.kill()
    nodes[2].wait()
    addresses = [node.address for node in nodes]
    for peers in (addresses, addresses[:1], addresses[2:] + addresses[1:2]):
        done = subprocess.run([program.parent / "caller", *peers], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stdout) == (0, "fibonacci(20) = 6765\ncolor = green\n"), done.stderr
