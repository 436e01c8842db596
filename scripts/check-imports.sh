#!/usr/bin/env bash
# Holds the sources to the import table of docs/architecture.md. SwiftPM's own check misses an undeclared import
# that arrives through another dependency, so the sources are scanned as well.
set -euo pipefail
cd "$(dirname "$0")/.."

libraries='Glibc|Foundation|FoundationEssentials|Synchronization|Dispatch'
declare -A allowed=(
    [Prelude]="Glibc"
    [Telemetry]="Prelude|Glibc|Synchronization"
    [Raft]="Prelude|DequeModule"
    [Workflow]="Prelude|DequeModule|HeapModule|FoundationEssentials|Glibc"
    [Storage]="Prelude|Raft|CSQLite|CChecksum|DequeModule|Glibc"
    [StorageTesting]="Prelude|Storage"
    [Wire]="Prelude|Telemetry|Raft|Workflow|CNGHTTP2|CProtobuf|CMessages|COpenSSLShims|CZlib|DequeModule|HeapModule|Glibc"
    [Node]="Prelude|Telemetry|Raft|Workflow|Storage|Wire|Logging|DequeModule"
    [Reactor]="Prelude|Telemetry|CUV|CUVShims|CMicroHTTPDShims|DequeModule|HeapModule|Glibc|Synchronization"
    [Raftoral]="Prelude|Telemetry|CoreMetrics|Raft|Workflow|Storage|Wire|Node|Reactor|Logging|$libraries"
    [Simulator]="Prelude|Raft|Workflow|Storage|StorageTesting|Wire|Node|Logging|DequeModule|HeapModule|$libraries"
    [SimulatorCommand]="Prelude|Simulator|ArgumentParser|$libraries"
    [CommandLine]="Prelude|Raftoral|ArgumentParser|Logging|$libraries"
)
# Calls of a C library stand in one module only.
declare -A calls=([uv_]=Reactor [MHD_]=Reactor [nghttp2_]=Wire [protobuf_c_]=Wire [sqlite3_]=Storage)

failed=0
for module in "${!allowed[@]}"; do
    found=$(grep -rnE '^(@[_a-zA-Z()]+ )*((public|internal|private|package) )?import ' "Sources/$module" --include='*.swift' \
        | grep -vE "import ((struct|class|enum|func|protocol|var|let|typealias) )?(${allowed[$module]})(\.|$| )" || true)
    if [ -n "$found" ]; then
        echo "$module may not import (docs/architecture.md, \"Targets\"):" >&2
        echo "$found" >&2
        failed=1
    fi
done
for call in "${!calls[@]}"; do
    found=$(grep -rnE "(^|[^a-zA-Z0-9_])${call}[a-z]+[a-z0-9_]*\(" Sources --include='*.swift' | grep -v "^Sources/${calls[$call]}/" || true)
    if [ -n "$found" ]; then
        echo "$call… is called outside of ${calls[$call]}:" >&2
        echo "$found" >&2
        failed=1
    fi
done
long=$(git ls-files 'Sources/*.swift' 'Tests/*.swift' 'CSystemShims/*.c' | grep -v 'pb-c' | xargs -r wc -l \
    | awk '$2 != "total" && $1 > 800 {print "  " $1 " lines: " $2}')
if [ -n "$long" ]; then
    echo "files over 800 lines:" >&2
    echo "$long" >&2
    failed=1
fi
traps=$(grep -rnE 'try!|fatalError\(|usleep\(|Thread\.sleep|as! ' Sources --include='*.swift' || true)
if [ -n "$traps" ]; then
    echo "forbidden calls:" >&2
    echo "$traps" >&2
    failed=1
fi
# Lines that others cause are held back by the gate of GatedLog; PeerLinks has one for each peer.
lines=$(grep -rnE 'logger\.(trace|debug|info|notice|warning|error|critical|log)\(' Sources/Node Sources/Wire Sources/Reactor --include='*.swift' \
    | grep -vE '^Sources/Node/(GatedLog|PeerLinks)\.swift:' || true)
if [ -n "$lines" ]; then
    echo "log lines past the gate (use Node.log):" >&2
    echo "$lines" >&2
    failed=1
fi
exit $failed
