#!/usr/bin/env bash
# Builds the release program with the Swift runtime and the C libraries inside, so that it runs on any Linux with a
# C library no older than this machine's: .build/dist/raftoral, with its size and what it still links to.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.build/dist
mkdir -p "$out/pkgconfig"

# The same libraries by their archives: each .pc file stands in front of the system's.
archive() { # NAME FLAGS…: the package, and what links it statically
    local name=$1
    shift
    printf 'Name: %s\nDescription: static\nVersion: %s\nCflags: %s\nLibs: %s\n' \
        "$name" "$(pkg-config --modversion "$name")" "$(pkg-config --cflags "$name")" "$*" >"$out/pkgconfig/$name.pc"
}
archive libuv -l:libuv_a.a -lpthread -ldl -lrt
archive libnghttp2 -l:libnghttp2.a
archive sqlite3 -l:libsqlite3.a -lm -l:libz.a
archive zlib -l:libz.a
archive libprotobuf-c -l:libprotobuf-c.a
archive openssl -l:libssl.a -l:libcrypto.a -ldl -lpthread
# Debian's libmicrohttpd knows HTTPS, which is not used, by GnuTLS, of which there is no archive.
archive libmicrohttpd -l:libmicrohttpd.a -l:libgnutls.so.30

PKG_CONFIG_PATH="$PWD/$out/pkgconfig" swift build -c release --static-swift-stdlib --scratch-path "$out/build" \
    -Xswiftc -enforce-exclusivity=unchecked --product raftoral
cp "$out/build/release/raftoral" "$out/raftoral"
strip "$out/raftoral"

echo
echo "dist: $out/raftoral, $(($(stat -c %s "$out/raftoral") / 1024)) KiB, $("$out/raftoral" --version)"
echo "dist: it links to"
readelf -d "$out/raftoral" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/        \1/p'
