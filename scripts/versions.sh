#!/usr/bin/env bash
# Nodes of the previous version beside nodes of this one: upgrade one by one under load, and the way back. The previous version
# is built from git: the newest tag behind this commit, or PREVIOUS=COMMIT. Without arguments it builds this version, too.
#   versions.sh [PROGRAM]    the built program of this version
set -euo pipefail
cd "$(dirname "$0")/.."

previous=${PREVIOUS:-}
if [ -z "$previous" ]; then
    # A commit with a tag is compared with the tag before.
    start=HEAD
    if git describe --tags --exact-match HEAD >/dev/null 2>&1; then start=HEAD^; fi
    previous=$(git describe --tags --abbrev=0 "$start" 2>/dev/null || true)
fi
if [ -z "$previous" ]; then
    echo "versions: no tag yet: nothing to compare with (PREVIOUS=COMMIT compares with any commit)"
    exit
fi
commit=$(git rev-parse --verify "$previous^{commit}")
folder=.build/previous/$commit
program=$folder/build/debug/raftoral
if [ ! -x "$program" ]; then
    rm -rf .build/previous
    mkdir -p "$folder/source"
    git archive "$commit" | tar -x -C "$folder/source"
    echo "versions: building $previous ($commit)"
    swift build --package-path "$folder/source" --scratch-path "$folder/build" --product raftoral -j "$(nproc)"
fi
if [ $# -eq 0 ]; then
    swift build --product raftoral -j "$(nproc)"
    set -- "$(swift build --show-bin-path)/raftoral"
fi
echo "versions: $previous beside $(git describe --tags --always --dirty)"
python=$(scripts/venv.sh)
RAFTORAL_PREVIOUS=$program RAFTORAL=$1 "$python" -m pytest Tests/Python/test_versions.py -q
