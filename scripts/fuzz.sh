#!/usr/bin/env bash
# Fuzzes what bytes from outside reach, each target for SECONDS_EACH (default 60). Arguments: targets; default all.
# What was found lies in .build/fuzz-findings; the corpus of interesting inputs, kept between runs, beside it.
# With RUNS_EACH and SEED: that many inputs, from no corpus, the same ones each time.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
((${#targets[@]})) || targets=(http2 grpc gzip messages peers snapshots log)

export RAFTORAL_FUZZ=1 SWIFT_BACKTRACE=enable=no
swift build --product raftoral-fuzz --sanitize=fuzzer --sanitize=address --scratch-path .build/fuzz >.build/fuzz.log 2>&1 ||
    { tail -n 20 .build/fuzz.log >&2; exit 1; }
program=$(find .build/fuzz -path '*/debug/raftoral-fuzz' -type f | head -n 1)
mkdir -p .build/fuzz-findings
if [ -n "${RUNS_EACH:-}" ]; then
    bound=(-runs="$RUNS_EACH" -seed="${SEED:-1}")
else
    bound=(-max_total_time="${SECONDS_EACH:-60}")
fi
failed=0
for target in "${targets[@]}"; do
    log=.build/fuzz-findings/$target.log corpus=()
    if [ -z "${RUNS_EACH:-}" ]; then
        corpus=(".build/fuzz-corpus/$target")
        mkdir -p "${corpus[@]}"
    fi
    if RAFTORAL_FUZZ_TARGET=$target ASAN_OPTIONS=detect_leaks=0 "$program" "${corpus[@]}" "${bound[@]}" \
        -max_len=4096 -timeout=60 -rss_limit_mb=2048 -artifact_prefix=.build/fuzz-findings/"$target"- >"$log" 2>&1; then
        echo "fuzz $target: $(grep -E '^Done ' "$log" || tail -n 1 "$log")"
    else
        echo "fuzz $target: FAILED, see $log" >&2
        tail -n 30 "$log" >&2
        failed=1
    fi
done
exit "$failed"
