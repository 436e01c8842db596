#!/usr/bin/env bash
# Everything that `make test` does by samples only. Without arguments all but the storm, else some of:
#   operations  each operation of a disk failing, four ways, under a whole node
#   bytes       each byte of a state store flipped, and under a whole node each byte of its directory
#   log         long random histories of the log alone
#   kills       200 times kill -9 on one node and on three; RAFTORAL_KILL_ROUNDS=N for another number
#   storm       nodes added, removed, replaced, moved, killed under load; RAFTORAL_STORM_ROUNDS=N changes, RAFTORAL_STORM_SEED=S
set -euo pipefail
cd "$(dirname "$0")/.."

# Each process takes its share of the points, and tells every few seconds how far it is.
points() { # TEST
    local part pid pids=() failed=0
    for part in $(seq "$jobs"); do
        RAFTORAL_CRASH=all RAFTORAL_CRASH_PART="$part/$jobs" \
            "$bin/raftoralPackageTests.xctest" "SimulatorTests.NodeCrashTests/$1" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

operations() { points test_noOperationThatFailsLosesAnything; }
bytes() {
    echo "each byte of a state store: three minutes, without more lines"
    RAFTORAL_CRASH=all "$bin/raftoralPackageTests.xctest" StorageTests.StateStoreTests/test_everyFlippedByteIsRefusedOrHarmless
    points test_everyFlippedByteIsHarmlessOrNamed
}
log() { STORAGE_ROUNDS=4000 "$bin/raftoralPackageTests.xctest" StorageTests.LogCrashTests; }
pytest() { # FILE
    local python
    python=$(scripts/venv.sh)
    RAFTORAL="$bin/raftoral" "$python" -m pytest -q "Tests/Python/$1"
}
kills() {
    export RAFTORAL_KILL_ROUNDS=${RAFTORAL_KILL_ROUNDS:-200}
    pytest test_kill_nine.py
}
storm() {
    export RAFTORAL_STORM_ROUNDS=${RAFTORAL_STORM_ROUNDS:-50}
    pytest test_membership_storm.py
}

parts=("$@")
[ $# -gt 0 ] || parts=(operations bytes log kills)
for part in "${parts[@]}"; do
    case $part in
        operations | bytes | log | kills | storm) ;;
        *) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
done

jobs=$(nproc)
# Optimized, it takes minutes and not hours.
optimized=(-c release -Xswiftc -enable-testing --scratch-path .build/crash)
swift build --build-tests "${optimized[@]}" -j "$jobs"
bin=$(swift build --show-bin-path "${optimized[@]}")

for part in "${parts[@]}"; do
    began=$SECONDS
    printf '\n── %s\n' "$part"
    "$part"
    echo "$part: passed in $((SECONDS - began)) s"
done
