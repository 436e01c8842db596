import Logging
import Prelude
import Raft
import Storage
import Wire
import Workflow

/// What `Node.start` has put together before there is a node.
struct NodeParts {
    var configuration: NodeConfiguration
    var seams: Seams
    var logger: Logger
    var identity: NodeIdentity
    var advertisedAddress: HostPort
    var server: GRPCServer
    var listener: any Listener
    var dataDirectory: DataDirectory
    var log: DurableLog
    var snapshots: SnapshotStore
    var stores: FlatMap<GroupID, GroupStore>
    var groups: [RaftGroup]
    var directory: DirectoryMachine
    var registry: WorkflowRegistry
    var turns: NodeTurns
}

/// The node's place in the loop's turn: before that of everything that flushes what it writes. Keeps the node alive
/// until it has ended.
final class NodeTurns {
    var node: Node?
    private(set) var request: (any TurnRequest)?

    init(_ turns: any Turns) {
        request = turns.register { [unowned self] in node?.turn() }
    }

    func end() {
        request?.unregister()
        request = nil
        node = nil
    }

    deinit { request?.unregister() }
}

extension Node {
    /// Starts a node: resumes what the data directory holds, or bootstraps, or joins. Call it on the loop.
    ///
    /// Returns once the node serves; after a bootstrap it leads its cluster, after a join it has heard of the leader
    /// unless that takes too long.
    public static func start(
        _ configuration: NodeConfiguration, seams: Seams, registry: WorkflowRegistry, logger: Logger,
        report: @escaping (StartEvent) -> Void = { _ in }
    ) async throws(NodeError) -> Node {
        do { try configuration.limits.validate() } catch { throw .invalidLimits(error) }
        let starter = try NodeStarter(configuration, seams: seams, registry: registry, logger: logger, report: report)
        do {
            return try await starter.start()
        } catch {
            starter.abandon()
            throw error
        }
    }
}

/// Walks through the start of one node.
private final class NodeStarter {
    private let configuration: NodeConfiguration
    private let seams: Seams
    private let registry: WorkflowRegistry
    private let logger: Logger
    private let report: (StartEvent) -> Void
    private let dataDirectory: DataDirectory
    private let server: GRPCServer
    private let listener: any Listener
    private let gate = Gate()
    private let turns: NodeTurns
    private var openedLog: DurableLog?
    private var openedStores: [GroupID: StateStore] = [:]
    private var random: SeededRandom

    /// Until the node serves, whoever connects is turned away at once and tries again.
    private final class Gate { var isOpen = false }

    init(
        _ configuration: NodeConfiguration, seams: Seams, registry: WorkflowRegistry, logger: Logger,
        report: @escaping (StartEvent) -> Void
    ) throws(NodeError) {
        self.configuration = configuration
        self.seams = seams
        self.registry = registry
        self.logger = logger
        self.report = report
        random = SeededRandom(seed: seams.randomSeed)
        do {
            dataDirectory = try DataDirectory.open(
                configuration.dataDirectory, disk: seams.disk, takesDamagedIdentity: configuration.repairsFromPeers)
        } catch {
            throw .storage(error)
        }
        guard dataDirectory.holdsNode || configuration.bootstrap || !configuration.peers.isEmpty else {
            dataDirectory.close()
            throw .nothingToDo
        }
        turns = NodeTurns(seams.turns)
        do throws(NetworkError) {
            let server = GRPCServer(clock: seams.clock, turns: seams.turns, limits: configuration.limits.wire)
            if let access = configuration.access { server.authorize = { access.refusal(of: $0) } }
            self.server = server
            listener = try seams.network.listen(on: configuration.address) { [gate] connection in
                if gate.isOpen { server.accept(connection) } else { connection.close() }
            }
        } catch {
            dataDirectory.close()
            throw .cannotBind(error)
        }
    }

    func abandon() {
        turns.end()
        openedLog?.close()
        closeStores()
        listener.close()
        dataDirectory.close()
    }

    private func closeStores() {
        for (_, store) in openedStores.sorted(by: { $0.key < $1.key }) { store.close() }
        openedStores = [:]
    }

    func start() async throws(NodeError) -> Node {
        let advertised = configuration.advertised(bound: listener.address)
        // A repair was interrupted after the cluster had let the node go.
        if dataDirectory.isRetired {
            guard !configuration.peers.isEmpty else {
                throw .joinRefused(
                    reason: "\(configuration.dataDirectory) is that of a node that its cluster has let go, and goes on "
                        + "as another member of it: name others by --peers, or empty the directory")
            }
            try onStorage { () throws(StorageError) in try dataDirectory.dropData() }
        }
        if let damage = dataDirectory.identityDamage { return try await repair(.storage(damage), of: nil, advertised) }
        if let identity = dataDirectory.identity, dataDirectory.holdsNode {
            do throws(NodeError) {
                return try await resume(identity, advertised)
            } catch {
                guard configuration.repairsFromPeers, error.isDamage else { throw error }
                return try await repair(error, of: identity, advertised)
            }
        }
        if configuration.bootstrap { return try await bootstrap(advertised) }
        report(.starting(address: listener.address, mode: .join))
        return try await join(advertised, as: configuration.nodeID)
    }

    private func resume(_ identity: NodeIdentity, _ advertised: HostPort) async throws(NodeError) -> Node {
        let mode = StartMode.resume(bootstrapFlagIgnored: configuration.bootstrap)
        report(.starting(address: listener.address, mode: mode))
        try await refuseForeignPeers(identity)
        report(.nodeID(identity.nodeID, assigned: .own))
        return try await serve(identity, advertised, try openStorage(), members: nil)
    }

    /// A node needs no peers to resume. Whoever names some expects their cluster, though, and must not get another one.
    private func refuseForeignPeers(_ identity: NodeIdentity) async throws(NodeError) {
        let discovery = Discovery(seams: seams, limits: configuration.limits)
        let found = await discovery.askOnce(configuration.peers).compactMap { try? $0.result.get().clusterID }
        guard !found.contains(identity.clusterID), let other = found.first(where: { !$0.isEmpty }) else { return }
        throw .foreignCluster(
            directory: configuration.dataDirectory, node: identity.nodeID, clusterID: identity.clusterID,
            peersClusterID: other)
    }

    // MARK: - Storage

    private struct OpenedStorage {
        var log: DurableLog
        var recovered: [GroupID: RecoveredGroup]
        var snapshots: SnapshotStore
    }

    private func openStorage() throws(NodeError) -> OpenedStorage {
        do {
            let (log, recovered) = try DurableLog.open(
                directory: dataDirectory.logPath, disk: seams.disk, work: seams.work, limits: configuration.limits.log)
            openedLog = log
            let snapshots = try SnapshotStore(
                directory: dataDirectory.snapshotsPath, disk: seams.disk, work: seams.work,
                limits: configuration.limits.log)
            return OpenedStorage(log: log, recovered: recovered, snapshots: snapshots)
        } catch {
            throw .storage(error)
        }
    }

    private func save(_ identity: NodeIdentity) throws(NodeError) {
        try onStorage { () throws(StorageError) in try dataDirectory.saveIdentity(identity) }
    }

    private func onStorage(_ body: () throws(StorageError) -> Void) throws(NodeError) {
        do { try body() } catch { throw .storage(error) }
    }

    // MARK: - Bootstrap

    private func bootstrap(_ advertised: HostPort) async throws(NodeError) -> Node {
        let id = configuration.nodeID ?? 1
        guard id != .none, id <= DirectoryMachine.highestAssignableID else {
            throw .joinRefused(reason: "node ids are from 1 to \(DirectoryMachine.highestAssignableID)")
        }
        report(.starting(address: listener.address, mode: .bootstrap))
        report(.nodeID(id, assigned: .bootstrap))
        // Without groups until they have all begun: a crash in between leads here again.
        var identity = NodeIdentity(
            clusterID: makeToken(), nodeID: id, incarnation: 0, advertisedAddress: advertised.description, groups: [])
        try save(identity)
        var opened = try openStorage()
        let groups: [GroupID] = [.directory, .firstWorkflows]
        for group in groups {
            let machine: any ReplicatedMachine =
                group == .directory
                ? DirectoryMachine(
                    clusterID: identity.clusterID, firstNode: id, address: advertised.description, groups: groups,
                    protocolLevel: configuration.protocolLevel)
                : WorkflowGroupMachine(group: group, limits: configuration.limits.workflow)
            try await write(firstSnapshotOf: group, machine, voter: id, &opened)
        }
        identity.groups = groups
        try save(identity)
        return try await serve(identity, advertised, opened, members: 1)
    }

    /// Every group begins with a snapshot at index 1 that names its first voter.
    private func write(
        firstSnapshotOf group: GroupID, _ machine: any ReplicatedMachine, voter: NodeID, _ opened: inout OpenedStorage
    ) async throws(NodeError) {
        let metadata = SnapshotMetadata(index: 1, term: 1, confState: ConfState(voters: [voter]))
        let snapshot = Snapshot(
            metadata: metadata, data: GroupSnapshot(digest: 0, machine: machine.snapshot()).encoded())
        let hardState = HardState(term: 1, vote: .none, commit: 1)
        let snapshots = opened.snapshots
        let saved = await withCheckedContinuation { continuation in
            snapshots.save(group, snapshot) { continuation.resume(returning: $0) }
        }
        if case .failure(let error) = saved { throw .storage(error) }
        // An earlier bootstrap may have come as far as this before it was interrupted: a log begins only once.
        if opened.recovered[group] == nil {
            try await append([.snapshot(group, metadata), .hardState(group, hardState)], to: opened.log)
        }
        opened.recovered[group] = RecoveredGroup(
            hardState: hardState, snapshot: metadata, start: LogPoint(index: metadata.index, term: metadata.term))
    }

    private func makeToken() -> String { makeClusterID(&random) }

    // MARK: - Join

    /// - Parameter id: nil to have one assigned.
    private func join(_ advertised: HostPort, as id: NodeID?) async throws(NodeError) -> Node {
        let leftover = try openLeftover()
        let (found, discovery, deadline) = try await discover(advertised)
        let answer = try await askToJoin(found, advertised, as: id, discovery, deadline: deadline)
        let identity = NodeIdentity(
            clusterID: answer.clusterID, nodeID: answer.nodeID, incarnation: 0,
            advertisedAddress: advertised.description, groups: answer.groupIDs)
        try save(identity)
        report(.nodeID(answer.nodeID, assigned: id == nil ? .assigned : .configured))
        let opened = if let leftover { leftover } else { try openStorage() }
        return try await serve(identity, advertised, opened, members: answer.members.count)
    }

    /// Asks the peers until one of them knows a leader, or time is up.
    private func discover(
        _ advertised: HostPort
    ) async throws(NodeError) -> (found: [DiscoveredPeer], discovery: Discovery, deadline: Nanoseconds) {
        let peers = configuration.peers
        report(.discovering(peers: peers))
        let deadline = seams.clock.now + .seconds(configuration.discoveryTimeoutSeconds)
        let discovery = Discovery(seams: seams, limits: configuration.limits)
        let found = await discovery.ask(
            peers.filter { $0 != advertised }, until: deadline,
            report: { [report] answer in
                switch answer.result {
                case .success(let peer): report(.discovered(peer))
                case .failure(let status):
                    let reason = String(status.message.trimmingPrefix("\(answer.peer): "))
                    report(.discoveryFailed(peer: answer.peer, reason: reason))
                }
            },
            isEnough: { $0.contains { $0.role == .leader || $0.leaderAddress != nil } })
        guard !found.isEmpty else {
            throw .noPeersFound(peers: peers, timeoutSeconds: configuration.discoveryTimeoutSeconds)
        }
        guard Set(found.map(\.clusterID)).count == 1 else {
            throw .joinRefused(reason: "the peers belong to different clusters")
        }
        return (found, discovery, deadline)
    }

    /// What an interrupted bootstrap has left is the beginning of another cluster. It is refused before anything is
    /// asked or saved: afterwards the directory would count as that of a member.
    private func openLeftover() throws(NodeError) -> OpenedStorage? {
        guard dataDirectory.identity != nil else { return nil }
        let opened = try openStorage()
        let saved: [GroupID]
        do { saved = try opened.snapshots.groups() } catch { throw .storage(error) }
        guard opened.recovered.isEmpty, saved.isEmpty else {
            throw .joinRefused(
                reason: "\(configuration.dataDirectory) holds the beginning of another cluster: empty it first")
        }
        return opened
    }

    /// Any member puts the request through the log; the leader is asked first, because it is nearest to it.
    private func askToJoin(
        _ found: [DiscoveredPeer], _ advertised: HostPort, as id: NodeID?, _ discovery: Discovery,
        deadline: Nanoseconds
    ) async throws(NodeError) -> JoinResponse {
        // Kept before the first call: whoever asks again after a lost answer, or after a crash, is the same joiner.
        let token: String
        do { token = try dataDirectory.joinToken(or: makeToken()) } catch { throw .storage(error) }
        let request = JoinRequest(
            address: advertised.description, nodeID: id ?? .none, requestID: token,
            highestKnownNodeID: NodeID(nextNodeID(found).rawValue - 1), protocolLevel: configuration.protocolLevel)
        return try await ask(
            found, ClusterServicePath.join, request, JoinResponse.self, discovery, deadline: deadline
        ) { status, target in
            if status.code == .alreadyExists { return .nodeIDExists(request.nodeID, peer: target.description) }
            return .joinRefused(reason: status.message)
        }
    }

    /// Asks one peer after the other, as `joinTargets` has them, until one answers; what cannot pass by itself is told by
    /// `failure`.
    private func ask<Request: WireMessage, Response: WireMessage>(
        _ found: [DiscoveredPeer], _ path: String, _ request: Request, _ type: Response.Type, _ discovery: Discovery,
        deadline: Nanoseconds, failure: (GRPCStatus, HostPort) -> NodeError
    ) async throws(NodeError) -> Response {
        let targets = joinTargets(found)
        var attempt = 0
        while true {
            let target = targets[attempt % targets.count]
            let timeout = Nanoseconds.milliseconds(configuration.limits.node.proposalTimeoutMilliseconds)
            let client = discovery.client(target)
            defer { client.close() }
            do throws(GRPCStatus) {
                return try await client.call(path, request, type, timeout: timeout)
            } catch {
                let isPassing = [.unavailable, .deadlineExceeded, .resourceExhausted].contains(error.code)
                guard isPassing, seams.clock.now < deadline else { throw failure(error, target) }
            }
            attempt += 1
            await discovery.pause(Discovery.firstBackoff)
        }
    }

    // MARK: - Repair

    /// Leaves the cluster as the node whose data is damaged, drops the data, and joins again as a new member.
    ///
    /// What that node had acknowledged may be lost, so it must never acknowledge or vote again: first the cluster lets
    /// it go, which takes a majority without it, then its identity is given up, and only then is anything dropped.
    private func repair(
        _ damage: NodeError, of identity: NodeIdentity?, _ advertised: HostPort
    ) async throws(NodeError) -> Node {
        report(.repairing(reason: damage.firstLine))
        await withCheckedContinuation { continuation in
            guard let openedLog else { return continuation.resume() }
            openedLog.close { continuation.resume() }
        }
        openedLog = nil
        closeStores()
        let (found, discovery, deadline) = try await discover(advertised)
        if let identity, let other = found.map(\.clusterID).first(where: { $0 != identity.clusterID }) {
            throw .foreignCluster(
                directory: configuration.dataDirectory, node: identity.nodeID, clusterID: identity.clusterID,
                peersClusterID: other)
        }
        var former = identity?.nodeID
        if former == nil { former = try await memberID(at: advertised, found, discovery, deadline: deadline) }
        if let former { try await leave(former, found, discovery, deadline: deadline) }
        report(.dropping(former))
        try onStorage { () throws(StorageError) in
            try dataDirectory.retire()
            try dataDirectory.dropData()
        }
        return try await join(advertised, as: nil)
    }

    private func leave(
        _ node: NodeID, _ found: [DiscoveredPeer], _ discovery: Discovery, deadline: Nanoseconds
    ) async throws(NodeError) {
        var isGone = false
        do throws(NodeError) {
            _ = try await ask(
                found, ClusterServicePath.remove, RemoveRequest(nodeID: node), RemoveResponse.self, discovery,
                deadline: deadline
            ) { status, _ in
                // An earlier attempt was interrupted after this step.
                isGone = status.code == .notFound
                return .cannotRepair(reason: status.message)
            }
        } catch {
            guard isGone else { throw error }
        }
    }

    /// Who has this node's address in the directory: for when its own identity cannot be read.
    private func memberID(
        at advertised: HostPort, _ found: [DiscoveredPeer], _ discovery: Discovery, deadline: Nanoseconds
    ) async throws(NodeError) -> NodeID? {
        let status = try await ask(
            found, ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self, discovery,
            deadline: deadline
        ) { status, _ in .cannotRepair(reason: status.message) }
        return status.members.first { $0.address == advertised.description }?.nodeID
    }

    // MARK: - Serve

    private func serve(
        _ identity: NodeIdentity, _ advertised: HostPort, _ opened: OpenedStorage, members: Int?
    ) async throws(NodeError) -> Node {
        var identity = identity
        do {
            try dataDirectory.dropBackups()
            identity.incarnation = try dataDirectory.beginIncarnation() ?? identity.incarnation
        } catch {
            throw .storage(error)
        }
        var opened = opened
        let recoveries = try await recover(identity.groups, &opened)
        let directory = DirectoryMachine()
        directory.plantedBugs = configuration.plantedBugs
        let groups = try makeGroups(identity, directory, recoveries)
        report(.clusterNodes(members ?? max(1, directory.state.members.count)))
        let node = Node(
            NodeParts(
                configuration: configuration, seams: seams, logger: logger, identity: identity,
                advertisedAddress: advertised, server: server, listener: listener, dataDirectory: dataDirectory,
                log: opened.log, snapshots: opened.snapshots,
                stores: groupStores(recoveries),
                groups: groups, directory: directory, registry: registry, turns: turns))
        node.startRuntimes()
        node.registerServices()
        node.begin()
        gate.isOpen = true
        // A single voter need not wait for an election timeout.
        for group in groups where group.configuration.voters == [identity.nodeID] { try? group.core.campaign() }
        let patience = seams.clock.now + .milliseconds(configuration.limits.node.proposalTimeoutMilliseconds)
        let isNew = members != nil
        await node.wait(until: patience) {
            !isNew || node.groups.allSatisfy { $0.leader != .none && $0.appliedIndex > 0 }
        }
        // Its disk may have failed, or the cluster removed it, before anybody could be told.
        if let reason = node.stopReason { throw reason }
        report(.clusterInitialised)
        report(.listening(listener.address))
        report(.runtimeReady)
        return node
    }

    private func groupStores(_ recoveries: [GroupID: GroupRecovery]) -> FlatMap<GroupID, GroupStore> {
        var stores = FlatMap<GroupID, GroupStore>()
        for (group, store) in openedStores {
            stores[group] = GroupStore(
                store, writtenIndex: recoveries[group]?.stored?.head.metadata.index ?? 0, clock: seams.clock,
                fullDiskRetry: .milliseconds(configuration.limits.node.fullDiskRetryMilliseconds))
        }
        return stores
    }

    private func makeGroups(
        _ identity: NodeIdentity, _ directory: DirectoryMachine, _ recoveries: [GroupID: GroupRecovery]
    ) throws(NodeError) -> [RaftGroup] {
        var groups: [RaftGroup] = []
        for id in identity.groups.sorted() {
            let machine: any ReplicatedMachine =
                id == .directory
                ? directory
                : WorkflowGroupMachine(
                    group: id, limits: configuration.limits.workflow, plantedBugs: configuration.plantedBugs)
            let group = try RaftGroup(
                id: id, node: identity.nodeID, incarnation: identity.incarnation,
                recovered: recoveries[id] ?? GroupRecovery(), machine: machine, limits: configuration.limits,
                random: SeededRandom(seed: random.next()), plantedCoreBugs: configuration.plantedCoreBugs)
            group.observer = configuration.observer
            group.plantedBugs = configuration.plantedBugs
            if configuration.plantedBugs.contains(.readsClockInApply) { group.plantedClock = seams.clock }
            groups.append(group)
        }
        return groups
    }

    // MARK: - Recovery

    private func recover(
        _ groups: [GroupID], _ opened: inout OpenedStorage
    ) async throws(NodeError) -> [GroupID: GroupRecovery] {
        var recoveries: [GroupID: GroupRecovery] = [:]
        for group in groups {
            let found = opened.recovered[group] ?? RecoveredGroup()
            var (snapshot, stored) = try loadState(of: group, opened)
            if let head = stored?.head, head.metadata.index >= snapshot?.metadata.index ?? 0 {
                snapshot = Snapshot(metadata: head.metadata, data: [])
            } else {
                stored = nil
            }
            recoveries[group] = try await recover(group, snapshot, found, opened.log)
            recoveries[group]?.stored = stored
        }
        return recoveries
    }

    /// The newest snapshot that another node sent, and what the state store holds: the newer one counts.
    private func loadState(
        of group: GroupID, _ opened: OpenedStorage
    ) throws(NodeError) -> (Snapshot?, StoredState?) {
        do {
            let store = try StateStore(
                group, directory: dataDirectory.statePath, disk: seams.disk, work: seams.work,
                limits: configuration.limits.state)
            openedStores[group] = store
            return (try opened.snapshots.load(group), try store.load())
        } catch {
            throw .storage(error)
        }
    }

    /// The newest snapshot and the log after it.
    private func recover(
        _ group: GroupID, _ snapshot: Snapshot?, _ found: RecoveredGroup, _ log: DurableLog
    ) async throws(NodeError) -> GroupRecovery {
        var recovery = GroupRecovery(snapshot: snapshot, hardState: found.hardState)
        if configuration.plantedBugs.contains(.forgetsHardState) {
            recovery.hardState.term = found.entries.last?.term ?? snapshot?.metadata.term ?? 0
            recovery.hardState.vote = .none
        }
        guard let metadata = snapshot?.metadata else {
            guard found.start.index == 0 else {
                throw .cannotRestore(group: group, reason: "the log begins after a snapshot whose file is missing")
            }
            recovery.entries = found.entries
            return recovery
        }
        guard found.start.index <= metadata.index else {
            throw .cannotRestore(
                group: group,
                reason: "the newest snapshot is at index \(metadata.index), the log begins after \(found.start.index)")
        }
        // The snapshot is of committed entries, whatever the log knew of it.
        recovery.hardState.commit = max(recovery.hardState.commit, metadata.index)
        if metadata.term > recovery.hardState.term {
            recovery.hardState.term = metadata.term
            recovery.hardState.vote = .none
        }
        let atSnapshot = found.entries.first { $0.index == metadata.index }?.term
        let isInLog = found.start == LogPoint(index: metadata.index, term: metadata.term) || atSnapshot == metadata.term
        if isInLog {
            recovery.entries = Array(found.entries.drop { $0.index <= metadata.index })
        } else {
            // A snapshot from another node was saved, and the log did not get to say that it restarts after it.
            try await append([.snapshot(group, metadata), .hardState(group, recovery.hardState)], to: log)
        }
        return recovery
    }

    private func append(_ records: [LogRecord], to log: DurableLog) async throws(NodeError) {
        let result = await withCheckedContinuation { continuation in
            log.append(records) { continuation.resume(returning: $0) }
        }
        if case .failure(let error) = result { throw .storage(error) }
    }
}

extension DataDirectory {
    /// A bootstrap that did not come to its end has left an identity without groups.
    fileprivate var holdsNode: Bool { identity?.groups.isEmpty == false }
}

extension Node {
    fileprivate func startRuntimes() {
        for group in groups {
            guard let machine = group.machine as? WorkflowGroupMachine else { continue }
            runtimes[group.id] = WorkflowRuntime(
                node: id, incarnation: incarnation, machine: machine.machine, registry: registry,
                executor: seams.executor, clock: seams.clock, random: SeededRandom(seed: random.next()),
                limits: limits.workflow
            ) { [weak self, id = group.id] command, completion in
                guard let self, let group = groups[id] else { return completion(.failed(.stopping)) }
                proposeForRuntime(command, in: group, completion: completion)
            }
            runtimes[group.id]?.onMessage = { [weak self, unowned group] run, reason in
                guard let run = group.workflowMachine?.run(run) else { return }
                self?.log(.warning, "a run does not advance", of: run, ["reason": "\(reason)"])
            }
        }
    }

    fileprivate func registerServices() {
        RaftService(node: self).register(on: server)
        health.register(on: server)
        ReflectionService.register(on: server)
        if let directoryGroup = groups[.directory] {
            ClusterService(node: self, directoryGroup: directoryGroup).register(on: server)
        }
        if let group = groups[.firstWorkflows] {
            WorkflowService(node: self, group: group).register(on: server)
            VariableService(node: self, group: group).register(on: server)
        }
    }
}
