#!/usr/bin/env bash
# XCTest under a sanitizer: scripts/sanitize.sh address|thread [TARGET…]. Without targets all of them, one after the other;
# a table at the end says what each came to. What they print stands in .build/sanitize-KIND/TARGET.log.
set -uo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: $0 address|thread [TARGET…]}
shift
targets=("$@")
((${#targets[@]})) || targets=(Prelude Telemetry Raft Workflow Wire Storage Reactor Node Raftoral Simulator)
# The program that prints backtraces hangs when it is started by a sanitized one.
export SWIFT_BACKTRACE=enable=no
# XCTest itself leaks.
export ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=halt_on_error=0
swift=(--sanitize="$kind" --scratch-path ".build/$kind")
logs=.build/sanitize-$kind
mkdir -p "$logs"

swift build --build-tests "${swift[@]}" >"$logs/build.log" 2>&1 || { tail -n 20 "$logs/build.log" >&2; exit 1; }

rows=() failed=0
for target in "${targets[@]}"; do
    log=$logs/$target.log began=$SECONDS outcome=clean
    echo "── ${target}Tests"
    swift test --skip-build "${swift[@]}" --filter "^${target}Tests\." >"$log" 2>&1 || outcome=FAILED
    reports=$(grep -cE '(WARNING|ERROR): (Address|Thread)Sanitizer|: runtime error:' "$log")
    # XCTest's own and those of Swift Testing.
    tests=$(sed -nE 's/^[[:space:]]*Executed ([0-9]+) tests?.*/\1/p' "$log" | tail -n 1)
    more=$(sed -nE 's/.*Test run with ([0-9]+) tests?.* passed.*/\1/p' "$log" | tail -n 1)
    tests=$((${tests:-0} + ${more:-0}))
    if ((reports > 0 || tests == 0)); then outcome=FAILED; fi
    [ "$outcome" = clean ] || { failed=1; grep -E 'error:|Sanitizer' "$log" | head -n 20 >&2; }
    rows+=("$(printf '%-14s  %-7s  %5s  %7s  %7s' "${target}Tests" "$outcome" "$tests" "$reports" $((SECONDS - began)))")
done
printf '\n%-14s  %-7s  %5s  %7s  %7s\n' TARGET OUTCOME TESTS REPORTS SECONDS
printf '%s\n' "${rows[@]}"
exit "$failed"
