#!/usr/bin/env bash
# Everything that `make test` does by samples only: every operation of a disk failing, every byte flipped, and 200 times
# kill -9 on one node and on three. RAFTORAL_KILL_ROUNDS=N for another number of kills.
set -euo pipefail
cd "$(dirname "$0")/.."

swift build --build-tests
python=$(scripts/venv.sh)
RAFTORAL_CRASH=all swift test --skip-build --filter NodeCrashTests
STORAGE_ROUNDS=4000 swift test --skip-build --filter StorageTests.LogCrashTests
RAFTORAL_KILL_ROUNDS=${RAFTORAL_KILL_ROUNDS:-200} RAFTORAL="$(swift build --show-bin-path)/raftoral" \
    "$python" -m pytest Tests/Python/test_kill_nine.py -q
