#!/usr/bin/env bash
# Prints the path of promtool, which checks metrics and alert rules: the installed one, or one unpacked from Debian's
# package, so that no Prometheus gets installed and started for the sake of a test.
set -euo pipefail
cd "$(dirname "$0")/.."
if installed=$(command -v promtool); then
    echo "$installed"
    exit
fi
tools=$PWD/.build/tools
if [ ! -x "$tools/usr/bin/promtool" ]; then
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    cd "$fresh"
    log=$fresh/log
    # apt drops its rights where it can, and then needs to write here.
    chmod 777 "$fresh"
    if ! { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    mkdir -p "$tools"
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -C "$tools" ./usr/bin/promtool
fi
echo "$tools/usr/bin/promtool"
