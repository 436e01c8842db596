"""The load of test_kill_nine.py as a program, to be run on a machine of its own: SEED ADDRESS… On standard input, a
line each: `count` prints how many starts were acknowledged; `stop` ends the load; `check` checks every result."""

import random
import sys
import time

import grpc
import raftoral_pb2 as pb
import raftoral_pb2_grpc as rpc
from test_kill_nine import Load, check_results


def check_digests(addresses, within=120):
    stubs = [rpc.ClusterServiceStub(grpc.insecure_channel(address)) for address in addresses]
    deadline = time.monotonic() + within
    while True:
        seen = {}
        for stub in stubs:
            for group in stub.Status(pb.ClusterStatusRequest(), timeout=60).groups:
                seen.setdefault(group.group_id, []).append((group.applied_index, group.applied_digest))
        if all(len({index for index, _ in states}) == 1 for states in seen.values()):
            assert len(seen) == 2 and all(len(set(states)) == 1 for states in seen.values()), seen
            return
        assert time.monotonic() < deadline, f"the nodes have not applied the same within {within} s: {seen}"
        time.sleep(0.1)


def main(seed, *addresses):
    chance = random.Random(int(seed))
    load = Load(addresses, chance)
    try:
        for line in sys.stdin:
            word = line.strip()
            if word == "count":
                assert not load.failures, load.failures
                print(len(load.acknowledged), flush=True)
            elif word == "stop":
                load.stop()
                print("stopped", flush=True)
            elif word == "check":
                assert not load.failures, load.failures
                check_results(load.acknowledged, addresses, chance)
                check_digests(addresses)
                print("checked", flush=True)
    finally:
        load.stop()


main(*sys.argv[1:])
