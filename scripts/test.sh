#!/usr/bin/env bash
# Builds once and runs every test: XCTest, the Raft traces, the Python tests against the built program, the simulator, the fuzz targets.
# Each runner's own closing lines go to the terminal; a table of the parts follows. Fails if any part fails.
set -uo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
names=() outcomes=() seconds=()
failed=0

part() { # NAME COMMAND…
    local name=$1 began=$SECONDS outcome=passed
    shift
    printf '\n── %s\n' "$name"
    "$@" || { outcome=FAILED; failed=1; }
    names+=("$name") outcomes+=("$outcome") seconds+=($((SECONDS - began)))
}

table() {
    printf '\n%-14s  %-7s  %7s\n' PART OUTCOME SECONDS
    for place in "${!names[@]}"; do
        printf '%-14s  %-7s  %7s\n' "${names[$place]}" "${outcomes[$place]}" "${seconds[$place]}"
    done
}

build() { swift build --build-tests -j "$jobs"; }

xctest() { swift test --skip-build; }

# The traces are a folder beside this repository; without it there is nothing to compare with, which is a failure.
conformance() {
    local traces=${RAFT_TESTDATA:-../shared/raft-testdata}
    [ -d "$traces" ] || { echo "no traces in $traces: set RAFT_TESTDATA" >&2; return 1; }
    RAFT_TESTDATA="$traces" "$bin/raft-conformance"
}

python_tests() {
    local python
    # Machines in network namespaces, with links that can be cut.
    scripts/deps.sh iproute2 nftables || return 1
    python=$(scripts/venv.sh) || return 1
    RAFTORAL="$bin/raftoral" "$python" -m pytest Tests/Python -q
}

versions() { scripts/versions.sh "$bin/raftoral"; }

# Other seeds for each change, drawn from what is tested: whoever tests the same sources gets the same ones, so that a rare
# failure is seen before a change lands, not after. They are printed; `make simulate COUNT=1000` is the hunt.
first_seed() {
    local content
    content=$(git rev-parse --verify --quiet 'HEAD^{tree}') ||
        content=$(find Package.swift Sources -type f | LC_ALL=C sort | xargs cat | sha1sum)
    echo $((16#${content:0:10}))
}

simulator() { "$bin/raftoral-sim" --seed "${SIMULATOR_SEED:-$(first_seed)}" --count "${SIMULATOR_SEEDS:-36}"; }

# The same inputs for the same sources, like the seeds; `make fuzz` is the hunt.
fuzz() {
    local runs=${FUZZ_RUNS:-20000} seed
    seed=$(($(first_seed) % 4294967295 + 1))
    echo "$runs inputs for each target, seed $seed"
    RUNS_EACH=$runs SEED=$seed scripts/fuzz.sh
}

part build build
if ((failed)); then
    table
    exit 1
fi
bin=$(swift build --show-bin-path)
part xctest xctest
part conformance conformance
part python python_tests
part versions versions
part simulator simulator
part fuzz fuzz
table
exit "$failed"
