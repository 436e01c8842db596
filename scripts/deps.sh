#!/usr/bin/env bash
# Installs the Debian packages that are missing. Arguments: further packages. Quiet when all are there.
set -euo pipefail
packages=(libuv1-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libssl-dev
    libsqlite3-dev libmicrohttpd-dev zlib1g-dev pkg-config python3 python3-venv curl "$@")

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "deps: installing ${missing[*]}"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "deps: could not install ${missing[*]}; the end of apt's output is above" >&2
        exit 1
    fi
fi
if ! command -v swift >/dev/null; then
    echo "deps: the Swift toolchain (6.3 or newer) is missing: see https://www.swift.org/install/linux/" >&2
    exit 1
fi
