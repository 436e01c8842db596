#!/usr/bin/env bash
# Installs and builds what the benchmarks compare with: h2load, nghttpd, etcd, and echo servers by grpc C++ and
# grpc-swift-2.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh nghttp2-client nghttp2-server etcd-server etcd-client valgrind libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc \
    g++ util-linux

out=Benchmarks/.build/cpp
mkdir -p "$out"
if [ Benchmarks/grpc-cpp/echo_server.cc -nt "$out/echo_server" ]; then
    echo "deps-bench: building the echo server of grpc C++"
    protoc -I Benchmarks --cpp_out="$out" --grpc_out="$out" \
        --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" Benchmarks/echo.proto
    # shellcheck disable=SC2046
    g++ -O2 -std=c++17 -I "$out" -o "$out/echo_server" Benchmarks/grpc-cpp/echo_server.cc \
        "$out/echo.pb.cc" "$out/echo.grpc.pb.cc" $(pkg-config --cflags --libs grpc++ protobuf)
fi
echo "deps-bench: building the echo server of grpc-swift-2 (minutes, the first time)"
swift build -c release --package-path Benchmarks/grpc-swift
