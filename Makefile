# `make cluster` and `make test` are all that a fresh machine needs; they install what is missing.

NODES ?= 3
PORT ?= 5001
RAFT_TESTDATA ?= ../shared/raft-testdata
CONFIGURATION ?= release

SEED ?=
COUNT ?= 100

# Without the checks of exclusive access, which take a tenth of a node's time and a fifth of the simulator's. The tests' builds
# have them.
UNCHECKED = -Xswiftc -enforce-exclusivity=unchecked
# With the Swift runtime within, a node takes less memory and starts sooner.
RELEASE = --static-swift-stdlib $(UNCHECKED)
SWIFT_BUILD = swift build -c $(CONFIGURATION) $(if $(filter release,$(CONFIGURATION)),$(RELEASE))
# Whole seeds are code of all modules at once: what one module inlines from another counts.
SIMULATOR = swift run -c $(CONFIGURATION) --scratch-path .build/simulator $(if $(filter release,$(CONFIGURATION)),$(RELEASE) -Xswiftc -cross-module-optimization) --quiet raftoral-sim

.PHONY: fuzz
.PHONY: help deps build test test-raft-conformance test-asan test-tsan crash kills storm versions simulate simulate-speed bench-raft deps-bench bench-wire bench-cluster bench-durability check format proto
.PHONY: cluster cluster-stop failover dist certs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 26

deps: ## install the Debian packages that are missing
	@scripts/deps.sh

build: deps ## build the raftoral program (release)
	@$(SWIFT_BUILD) --product raftoral

cluster: build ## run NODES local nodes, a workflow on them, and show their status
	@scripts/cluster.sh start $(NODES) $(PORT)

cluster-stop: ## stop the local cluster and delete its data
	@scripts/cluster.sh stop

failover: build ## kill the leader of the local cluster in the middle of a workflow
	@scripts/cluster.sh failover

test: deps check ## everything that must hold before a commit lands
	@scripts/test.sh

test-raft-conformance: deps ## the data-driven cases of RAFT_TESTDATA against the Raft core
	@RAFT_TESTDATA="$(RAFT_TESTDATA)" swift run --quiet raft-conformance

test-asan: deps ## the test suite under the address sanitizer
	@scripts/sanitize.sh address $(TARGETS)

test-tsan: deps ## the test suite under the thread sanitizer
	@scripts/sanitize.sh thread $(TARGETS)

crash: deps ## crash, damage and kill nodes at every point, then 200 times kill -9 on one node and on three: takes long
	@scripts/crash.sh

kills: deps ## ROUNDS=200 times kill -9 under load on one node and on three
	@RAFTORAL_KILL_ROUNDS=$(or $(ROUNDS),200) $(if $(SEED),RAFTORAL_SEED=$(SEED)) scripts/crash.sh kills

storm: deps ## ROUNDS=50 changes of the members under load, kill -9 among them
	@RAFTORAL_STORM_ROUNDS=$(or $(ROUNDS),50) $(if $(SEED),RAFTORAL_STORM_SEED=$(SEED)) scripts/crash.sh storm

versions: deps ## nodes of the previous version (the newest tag, or PREVIOUS=COMMIT) beside these: rolling upgrade, and back
	@PREVIOUS="$(PREVIOUS)" scripts/versions.sh

simulate: deps ## the real node over fake time, network and disks: COUNT seeds from SEED (default: drawn)
	@$(SIMULATOR) --count $(COUNT) $(if $(SEED),--seed $(SEED))

simulate-speed: deps ## how much faster than real time the simulator runs, under a load that it prints
	@$(SIMULATOR) --speed

fuzz: deps ## libFuzzer on all that bytes from outside reach, SECONDS=60 for each target
	@SECONDS_EACH="$(or $(SECONDS),60)" scripts/fuzz.sh

bench-raft: ## proposals to commits over three cores in one process; instructions and allocations of each
	@scripts/deps.sh valgrind
	@$(SWIFT_BUILD) --product raft-bench
	@scripts/bench-raft.sh .build/$(CONFIGURATION)/raft-bench

deps-bench: ## install and build what bench-wire and bench-cluster compare with
	@scripts/deps-bench.sh

bench-wire: deps ## unary echo beside nghttpd, grpc C++ and grpc-swift-2 (those that are there)
	@$(SWIFT_BUILD) --product grpc-echo-server
	@python3 Benchmarks/wire.py

bench-cluster: build ## replicated writes, reads, failover and cold start beside etcd (when it is there)
	@$$(scripts/venv.sh) Benchmarks/cluster.py

bench-durability: build ## a start with a million ended runs, and a follower that is 1 GiB behind (minutes, some GiB of disk)
	@$$(scripts/venv.sh) Benchmarks/durability.py

check: deps ## import directions, formatting, forbidden calls, generated code
	@scripts/check-imports.sh
	@swift format lint --strict --recursive Sources Tests Examples Package.swift
	@scripts/generate-proto.sh --check
	@scripts/check-docs.sh
	@echo "check: imports, formatting, generated code and documents are in order"

format: ## format all Swift sources
	@swift format --in-place --recursive Sources Tests Examples Package.swift

proto: deps ## generate the C code of proto/ anew
	@scripts/generate-proto.sh

certs: ## a CA and certificates for trying TLS out, in .certs
	@scripts/certs.sh

dist: deps ## one program file that needs no Swift and no C libraries installed
	@scripts/dist.sh

clean: ## delete all that was built
	@rm -rf .build .venv .cluster
