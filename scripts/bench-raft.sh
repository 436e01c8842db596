#!/usr/bin/env bash
# The Raft core alone: entries per second of one core, and, counted by valgrind, instructions and allocations per entry.
# The counts are the difference of two runs, so that the start of the program does not count. Argument: the program.
set -euo pipefail
bench=$1
short=500 long=1500

"$bench"

if ! command -v valgrind >/dev/null; then
    echo "valgrind is not installed: no counts of instructions and allocations"
    exit
fi

instructions() { # proposals batch
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" --proposals "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}

allocations() { # proposals batch
    valgrind "$bench" --proposals "$1" "$2" 2>&1 | sed -n 's/.*total heap usage: \([0-9,]*\) allocs.*/\1/p' | tr -d ,
}

echo "over all three nodes, per entry:"
for batch in 1 64; do
    entries=$(((long - short) * batch))
    echo "batch $batch: $((($(instructions $long $batch) - $(instructions $short $batch)) / entries)) instructions," \
        "$(awk "BEGIN { printf \"%.2f\", ($(allocations $long $batch) - $(allocations $short $batch)) / $entries }") allocations"
done
