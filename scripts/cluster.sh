#!/usr/bin/env bash
# A cluster on this machine: cluster.sh start [NODES] [FIRST_PORT] | stop | failover | status
# Everything lives under .cluster/, or RAFTORAL_CLUSTER: one data directory, log and pid file for each node.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${RAFTORAL_CLUSTER:-.cluster}
raftoral=${RAFTORAL:-.build/release/raftoral}

say() { printf '%s\n' "$*"; }
fail() { printf 'cluster: %s\n' "$*" >&2; exit 1; }
address() { echo "127.0.0.1:$1"; }
ports() { cat "$root/ports" 2>/dev/null || fail "no cluster runs here: start one with 'make cluster'"; }
# A process that has ended and that nobody has waited for yet (Z) does not run.
is_alive() { [ -d "/proc/$1" ] && ! grep -qE '^State:\s+[ZX]' "/proc/$1/status" 2>/dev/null; }
is_running() { [ -f "$root/node-$1/pid" ] && is_alive "$(cat "$root/node-$1/pid")"; }

launch() { # PORT FLAGS…
    local port=$1 home="$root/node-$1"
    shift
    mkdir -p "$home"
    "$raftoral" --address "$(address "$port")" --data-dir "$home/data" "$@" >"$home/stdout.log" 2>"$home/stderr.log" &
    echo $! >"$home/pid"
    disown
}

wait_until_running() { # PORT
    local home="$root/node-$1"
    for _ in $(seq 1200); do
        grep -q 'is running!' "$home/stdout.log" 2>/dev/null && return
        is_running "$1" || { cat "$home/stdout.log" "$home/stderr.log" >&2; fail "the node at port $1 ended"; }
        sleep 0.1
    done
    cat "$home/stdout.log" "$home/stderr.log" >&2
    fail "the node at port $1 did not start within 120 s"
}

# Asked before anything that needs nodes: within $(…) a failure would end the subshell only.
require_cluster() {
    [ -f "$root/ports" ] || fail "no cluster runs here: start one with 'make cluster'"
    local port
    for port in $(ports); do is_running "$port" && return; done
    fail "no node of the cluster runs: 'make cluster' starts a new one"
}

any_running() {
    local port
    for port in $(ports); do is_running "$port" && { echo "$port"; return; }; done
    fail "no node of the cluster runs"
}

field() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1], {"d": d}))' "$1"; }

wait_for_voters() { # COUNT
    local voters=0
    for _ in $(seq 1200); do
        voters=$("$raftoral" cluster status --address "$(address "$(any_running)")" --output json 2>/dev/null \
            | field 'min([sum(1 for r in g["replicas"] if r["voter"]) for g in d["groups"]])' 2>/dev/null || echo 0)
        [ "$voters" -ge "$1" ] && return
        sleep 0.1
    done
    fail "only $voters of $1 nodes became voters within 120 s"
}

leader_address() {
    local leader=
    for _ in $(seq 1200); do
        leader=$("$raftoral" cluster status --address "$(address "$(any_running)")" --output json 2>/dev/null | field \
            '[m["address"] for g in d["groups"] for m in d["members"] if g["groupID"] == 1 and m["nodeID"] == g["leaderNodeID"]][0]' \
            2>/dev/null) && { echo "$leader"; return; }
        sleep 0.1
    done
    fail "no leader within 120 s"
}

start() {
    local count=${1:-3} first=${2:-5001} port
    [ -x "$raftoral" ] || fail "$raftoral is missing: run 'make build'"
    if [ -f "$root/ports" ]; then
        for port in $(ports); do is_running "$port" && fail "a cluster runs already: 'make cluster-stop' ends it"; done
        rm -rf "$root"
    fi
    mkdir -p "$root"
    # A cluster that does not come up leaves nothing behind but what it said.
    trap stop EXIT
    seq "$first" $((first + count - 1)) >"$root/ports"
    say "▶ starting node 1 of $count at $(address "$first")"
    launch "$first" --bootstrap
    wait_until_running "$first"
    for port in $(tail -n +2 "$root/ports"); do
        say "▶ starting a node at $(address "$port")"
        launch "$port" --peers "$(address "$first")"
        wait_until_running "$port"
    done
    wait_for_voters "$((count < 5 ? count : 5))"
    trap - EXIT
    say "✓ $count nodes are one cluster"
    say ""
    say "▶ running the sample workflow fibonacci on it"
    "$raftoral" workflow start --type fibonacci --input '{"n":30,"stepDelayMilliseconds":10}' --wait \
        --address "$(address "$(tail -n 1 "$root/ports")")"
    say ""
    "$raftoral" cluster status --address "$(address "$first")"
    say ""
    say "Next: 'make failover' kills the leader in the middle of a workflow; 'make cluster-stop' ends the cluster."
}

failover() {
    local port any leader victim id="failover-$$" n=60
    require_cluster
    for port in $(ports); do
        is_running "$port" && continue
        say "▶ starting the node at $(address "$port") again"
        launch "$port"
        wait_until_running "$port"
    done
    leader=$(leader_address)
    victim=${leader##*:}
    # The leader takes the call and so owns the run: it is the worst node to lose.
    say "▶ starting workflow $id (fibonacci of $n, one step every 50 ms) on the leader, $leader"
    "$raftoral" workflow start --type fibonacci --id "$id" --input "{\"n\":$n,\"stepDelayMilliseconds\":50}" \
        --address "$leader"
    sleep 1
    say "✗ kill -9 of the leader at $leader (pid $(cat "$root/node-$victim/pid"))"
    kill -9 "$(cat "$root/node-$victim/pid")"
    for _ in $(seq 600); do is_running "$victim" || break; sleep 0.1; done
    any=$(any_running)
    say "▶ asking $(address "$any") for the result"
    "$raftoral" workflow result "$id" --address "$(address "$any")"
    "$raftoral" workflow describe "$id" --address "$(address "$any")" --output json >"$root/failover.json"
    python3 - "$root/failover.json" "$n" <<'PYTHON'
import collections, json, sys
run, n = json.load(open(sys.argv[1])), int(sys.argv[2])
def fibonacci(n):
    a, b = 0, 1
    for _ in range(n): a, b = b, a + b
    return a
result = json.loads(run["result"])["result"]
assert result == fibonacci(n), f"wrong result {result}"
times = collections.Counter(c["key"] for c in run["checkpoints"])
positions = [c["position"] for c in run["checkpoints"]]
assert positions == list(range(len(positions))), "positions are not 0, 1, 2, …"
twice = [key for key, count in times.items() if count > 1]
assert not twice, f"recorded twice: {twice}"
epochs = collections.Counter(c["epoch"] for c in run["checkpoints"])
assert len(epochs) > 1, "the run never changed hands: the leader was killed too late"
print(f"✓ fibonacci({n}) = {result}; {len(positions)} steps, each recorded once")
for epoch, count in sorted(epochs.items()): print(f"  epoch {epoch}: {count} steps")
PYTHON
    say "▶ starting the killed node again"
    launch "$victim"
    wait_until_running "$victim"
    sleep 1
    "$raftoral" cluster status --address "$(address "$any")"
}

stop() {
    [ -f "$root/ports" ] || { say "no cluster runs here"; return; }
    local port pid
    for port in $(ports); do
        is_running "$port" || continue
        pid=$(cat "$root/node-$port/pid")
        kill -TERM "$pid"
        for _ in $(seq 100); do is_alive "$pid" || break; sleep 0.1; done
        if is_alive "$pid"; then
            kill -9 "$pid"
            say "✗ node at port $port had to be killed"
        else
            say "✓ node at port $port stopped"
        fi
    done
    rm -rf "$root"
}

command=${1:-}
[ $# -gt 0 ] && shift
case $command in
    start) start "$@" ;;
    stop) stop ;;
    failover) failover ;;
    status) require_cluster; "$raftoral" cluster status --address "$(address "$(any_running)")" ;;
    *) fail "usage: cluster.sh start [NODES] [FIRST_PORT] | stop | failover | status" ;;
esac
