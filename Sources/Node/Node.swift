import Logging
import Prelude
import Raft
import Storage
import Wire
import Workflow

/// One member of a cluster. Confined to one loop: callbacks fill its inboxes, `turn` acts.
public final class Node {
    public let configuration: NodeConfiguration
    public let id: NodeID
    public let clusterID: String
    public let incarnation: Incarnation
    /// Where the other nodes reach this one.
    public let advertisedAddress: HostPort
    /// As the directory has it.
    private(set) lazy var advertisedText = advertisedAddress.description

    let seams: Seams
    let limits: Limits
    let log: GatedLog
    let server: GRPCServer
    let listener: any Listener
    let dataDirectory: DataDirectory
    let durableLog: DurableLog
    /// Of the snapshots that clusters begin with, until the state store holds what they held.
    let snapshotStore: SnapshotStore
    let stores: FlatMap<GroupID, GroupStore>
    let writes: WriteQueue
    let links: PeerLinks
    let groups: [RaftGroup]
    let directory: DirectoryMachine
    let registry: WorkflowRegistry
    var runtimes = FlatMap<GroupID, WorkflowRuntime>()

    private var inbox = DoubleBuffer<(group: GroupID, message: Message)>()
    private var answers = DoubleBuffer<CallerAnswer>()
    private var isStartingWrites = false
    private let turns: NodeTurns
    private var tickTimer: (any ScheduledTimer)?
    private var nextSequence: UInt64 = 1
    /// The newest stream from each peer.
    var inboundStreams = FlatMap<NodeID, ServerStream>()
    var conditionWaiters: [ConditionWaiter] = []
    /// For the snapshots that come in parts, on whichever streams.
    let snapshotRoom: SnapshotRoom
    /// Addresses that peers gave of themselves; used until the directory knows better.
    var greetedAddresses = FlatMap<NodeID, HostPort>()
    var lastHeard = FlatMap<NodeID, Nanoseconds>()
    var resultWaiters = ResultWaiters()
    var reconcileAt: Nanoseconds = 0
    var leaderlessSince: Nanoseconds?
    var isToldRemoved = false
    /// A member told this node that the directory is without it: whoever stays has to lead.
    var isToldToHandOver = false
    /// Members that have never been there, and since when this leader waits for them.
    var unseenSince: [NodeID: Nanoseconds] = [:]
    var askedWhetherRemovedAt: Nanoseconds = 0
    /// Since when nobody needs this removed node.
    var unneededSince: Nanoseconds?
    let metrics: NodeMetrics
    private(set) lazy var readiness = Readiness(node: self)
    private(set) lazy var backups = BackupDesk(node: self)
    private(set) lazy var images = ImageDesk(node: self)
    private(set) lazy var fetches = ImageFetcher(node: self)
    private(set) lazy var health = HealthService(node: self)
    var disk = DiskWatch()
    var random: SeededRandom
    var phase = Phase.running
    /// Why the node stopped by itself.
    private(set) var stopReason: NodeError?

    enum Phase: Equatable { case running, draining, stopped }

    /// Called once when the node stops by itself: removed from the cluster, or its disk failed.
    public var onStop: (NodeError) -> Void = { _ in }

    init(_ parts: NodeParts) {
        configuration = parts.configuration
        limits = parts.configuration.limits
        seams = parts.seams
        log = GatedLog(parts.logger, clock: parts.seams.clock, limits: parts.configuration.limits.telemetry)
        id = parts.identity.nodeID
        clusterID = parts.identity.clusterID
        incarnation = parts.identity.incarnation
        advertisedAddress = parts.advertisedAddress
        server = parts.server
        listener = parts.listener
        dataDirectory = parts.dataDirectory
        durableLog = parts.log
        snapshotStore = parts.snapshots
        stores = parts.stores
        groups = parts.groups
        directory = parts.directory
        registry = parts.registry
        turns = parts.turns
        snapshotRoom = SnapshotRoom(
            byteCountMax: UInt64(limits.node.snapshotPartByteCount), snapshotCountMax: UInt64(parts.groups.count))
        random = SeededRandom(seed: parts.seams.randomSeed)
        metrics = NodeMetrics()
        writes = WriteQueue(
            log: durableLog, clock: seams.clock, metrics: metrics,
            byteCountMax: limits.log.batchByteCountMax,
            fullDiskRetry: .milliseconds(limits.node.fullDiskRetryMilliseconds))
        links = PeerLinks(
            seams: seams, limits: limits, logger: parts.logger,
            greeting: PeerGreeting(clusterID: clusterID, nodeID: id, address: advertisedAddress))
    }

    // MARK: - The turn

    /// The way of the data: everything that came since the last turn, in a fixed order.
    func turn() {
        guard phase != .stopped else { return }
        let now = seams.clock.now
        stepInbox()
        propose(now: now)
        collectReadies(now: now)
        isStartingWrites = true
        writes.start()
        isStartingWrites = false
        answerCallers()
        updateStores()
        resumeConditionWaiters(now: now)
    }

    private func stepInbox() {
        if inbox.isEmpty { return }
        var messages = inbox.take()
        defer { inbox.giveBack(&messages) }
        for (group, message) in messages {
            guard let group = groups[group], hasRoom(for: message, in: group) else { continue }
            if message.kind == .snapshot, fetches.takesCareOf(message, group) { continue }
            group.step(message, wallMilliseconds: seams.clock.wallMilliseconds)
        }
    }

    /// Without, it counts as lost: proposals and entries are sent again, until another one leads or there is room.
    private func hasRoom(for message: Message, in group: RaftGroup) -> Bool {
        switch message.kind {
        case .propose: fullDisk(of: group) == nil && !group.isAheadOfStore
        case .append: !group.isAheadOfStore
        default: true
        }
    }

    private func propose(now: Nanoseconds) {
        for group in groups {
            group.propose(now: now, wallMilliseconds: seams.clock.wallMilliseconds)
            group.askForReads(now: now)
        }
    }

    private func collectReadies(now: Nanoseconds) {
        // What a group leaves for the next turn is asked for in `answerCallers`.
        for group in groups { group.takeTurn(now: now) { carryOut($0, of: group) } }
    }

    private func carryOut(_ output: RaftGroup.Output, of group: RaftGroup) {
        for message in output.messages { send(message, of: group.id) }
        if configuration.plantedBugs.contains(.respondsBeforeWritten) {
            for response in output.writes.flatMap(\.responses) where response.to != id { send(response, of: group.id) }
        }
        for message in output.writes {
            writes.add(message, group: group.id, changesOnlyCommit: group.changesOnlyCommit(message))
        }
        // When no disk knows that the new members count, the old ones may be gone, and nobody be elected.
        if output.configurationChanged { writes.writeCommit(of: group.id) }
        if !output.answers.isEmpty { answers.append(contentsOf: output.answers) }
        if !output.effects.isEmpty { perform(output.effects, of: group) }
    }

    private func answerCallers() {
        // Answers may lead to new proposals, which join the next turn.
        if !answers.isEmpty {
            var ready = answers.take()
            for answer in ready { answer.tell() }
            answers.giveBack(&ready)
        }
        if groups.contains(where: { $0.core.hasReady }) { requestTurn() }
    }

    func requestTurn() { turns.request?.request() }

    // MARK: - Inboxes

    /// A message from a peer.
    func receive(_ message: Message, group: GroupID) {
        guard phase != .stopped, message.to == id else { return }
        noteHeard(message.from)
        metrics.received(message.kind)
        enqueue(message, group: group)
    }

    func enqueue(_ message: Message, group: GroupID) {
        inbox.append((group, message))
        requestTurn()
    }

    /// Proposes `payload` to the group; `completion` is called once, with what the machine answered.
    func propose(_ payload: [UInt8], to group: RaftGroup, completion answer: @escaping PendingProposals.Completion) {
        let completion = timed(answer) { $0.proposalEnded(after: $1, succeeded: $2) }
        if phase != .running, phase != .draining { return completion(.failure(.shuttingDown)) }
        guard payload.count <= limits.node.commandByteCountMax else {
            // Appended, it could never be replicated, and nothing behind it either.
            return completion(
                .failure(
                    .tooLarge(
                        "the command has \(payload.count) bytes; at most \(limits.node.commandByteCountMax) are allowed"
                    ))
            )
        }
        if let full = fullDisk(of: group) {
            return completion(
                .failure(.diskFull("the disk of node \(full) is full: free some space, and it goes on by itself")))
        }
        guard group.proposals.count < limits.node.pendingProposalCountMax,
            group.proposals.byteCount + payload.count <= limits.node.pendingProposalByteCountMax
        else {
            return completion(
                .failure(.overloaded("node \(id) has \(group.proposals.count) commands waiting: try again later")))
        }
        guard !group.isAheadOfStore else {
            return completion(
                .failure(.overloaded("node \(id) waits for its disk to take what was applied: try again later")))
        }
        let sequence = nextSequence
        nextSequence += 1
        let origin = CommandOrigin(node: id, incarnation: incarnation, sequence: sequence)
        let expires = seams.clock.now + .milliseconds(limits.node.proposalTimeoutMilliseconds)
        group.proposals.add(
            sequence, ProposalEnvelope.encode(payload: payload, origin: origin), expires: expires,
            completion: completion)
        requestTurn()
    }

    /// Calls back once this node's state is at least as new as everything acknowledged anywhere before this call.
    func readBarrier(_ group: RaftGroup, completion answer: @escaping PendingReads.Completion) {
        let completion = timed(answer) { $0.readEnded(after: $1, succeeded: $2) }
        guard phase != .stopped else { return completion(.failure(.shuttingDown)) }
        if configuration.plantedBugs.contains(.readsWithoutBarrier) { return completion(.success(())) }
        guard group.reads.count < limits.node.pendingReadCountMax else {
            return completion(
                .failure(.overloaded("node \(id) has \(group.reads.count) reads waiting: try again later")))
        }
        let expires = seams.clock.now + .milliseconds(limits.node.proposalTimeoutMilliseconds)
        group.reads.add(expires: expires, completion: completion)
        requestTurn()
    }

    /// `completion`, after its time and outcome have been noted.
    private func timed<Output>(
        _ completion: @escaping (Result<Output, CommandFailure>) -> Void,
        note: @escaping (NodeMetrics, _ span: Nanoseconds, _ succeeded: Bool) -> Void
    ) -> (Result<Output, CommandFailure>) -> Void {
        let start = seams.clock.now
        return { [metrics, clock = seams.clock] result in
            let succeeded = if case .success = result { true } else { false }
            note(metrics, clock.now - start, succeeded)
            completion(result)
        }
    }

    // MARK: - Ticks

    func begin() {
        turns.node = self
        // Work that is under way when a node stops may end after the node is gone.
        writes.onWritten = { [weak self] in self?.noteWritten($0) }
        writes.onFailed = { [weak self] in self?.stop(because: .storage($0)) }
        writes.onTimed = { [weak self] in self?.noteWrite(took: $0) }
        // Proposals that were dropped for lack of room have their time to be made again; at once would only add to it.
        links.onDropped = { [unowned self] peer in
            metrics.droppedPeerMessageCount += 1
            for group in groups where group.isLeader { group.core.reportUnreachable(peer) }
        }
        links.onUnreachable = { [unowned self] peer in
            metrics.unreachablePeerCount += 1
            for group in groups where group.isLeader { group.core.reportUnreachable(peer) }
            for group in groups where group.leader == peer { group.proposals.proposeAllAgain() }
            for group in groups { images.giveUp(peer, group.id) }
        }
        links.onSnapshotSent = { [unowned self] peer, group, succeeded in
            if !succeeded { images.giveUp(peer, group) }
        }
        for group in groups { group.onSnapshotWanted = { [unowned self] in images.snapshot(of: $0) } }
        readiness.onChange = { [unowned self] in health.changed() }
        watchStores()
        scheduleTick()
        requestTurn()
    }

    private func scheduleTick() {
        tickTimer = seams.clock.schedule(after: .milliseconds(limits.raft.tickMilliseconds)) { [unowned self] in
            guard phase != .stopped else { return }
            scheduleTick()
            tick()
        }
    }

    private func tick() {
        let now = seams.clock.now
        for group in groups {
            answers.append(contentsOf: group.tick(now: now))
            metrics.look(at: group)
        }
        readiness.look(now: now)
        fireTimers()
        images.look()
        fetches.look()
        if now >= reconcileAt {
            reconcileAt = now + .milliseconds(limits.node.reconcileMilliseconds)
            reconcile(now: now)
        }
        requestTurn()
    }

    // MARK: - Writes

    private func noteWritten(_ items: [WriteQueue.Item]) {
        guard phase != .stopped else { return }
        for item in items {
            guard let group = groups[item.group] else { continue }
            do {
                let incoming = group.incoming
                for response in try group.written(item.message) { send(response, of: group.id) }
                if item.message.snapshot != nil, let incoming {
                    noteInstalledSnapshot(of: group)
                    adopt(incoming, in: group)
                }
            } catch {
                return stop(because: error)
            }
        }
        // In the middle of a turn, its rest sees to what follows.
        if !isStartingWrites { requestTurn() }
    }

    // MARK: - Peers

    func send(_ message: Message, of group: GroupID) {
        guard phase != .stopped else { return }
        guard let address = address(of: message.to) else {
            // Unreported, a snapshot would count as under way for ever.
            if message.kind == .snapshot { groups[group]?.core.reportSnapshot(message.to, succeeded: false) }
            return
        }
        metrics.sent(message.kind)
        if message.kind == .snapshot { images.noteSent(to: message.to, group) }
        links.send(message, group: group, to: message.to, at: address, disk: toldDiskCondition(seams.clock.now))
    }

    func address(of node: NodeID) -> HostPort? {
        // A removed node has no address in the directory, and is spoken to until its groups are without it.
        // A node that was started with another address is heard from there before the directory knows.
        if inboundStreams[node] != nil, let greeted = greetedAddresses[node] { return greeted }
        return directory.address(of: node) ?? greetedAddresses[node] ?? links.address(of: node)
    }

    // MARK: - The end

    /// Stops at once. What was acknowledged is on disk.
    func stop(because error: NodeError) {
        guard phase != .stopped else { return }
        stopReason = error
        log(.error, "node stops", ["reason": "\(error)"])
        close()
        onStop(error)
    }

    /// `completion` runs when the log has ended its last write and the data directory is free.
    func close(completion: @escaping () -> Void = {}) {
        guard phase != .stopped else { return completion() }
        phase = .stopped
        tickTimer?.cancel()
        turns.end()
        writes.stop()
        for (_, runtime) in runtimes { runtime.stop() }
        // Results that were found in this turn and not yet told.
        for answer in answers.take() { answer.tell() }
        for group in groups {
            for completion in group.proposals.removeAll() { completion(.failure(.shuttingDown)) }
            for completion in group.reads.removeAll() { completion(.failure(.shuttingDown)) }
        }
        resultWaiters.failAll()
        backups.close()
        images.close()
        links.close()
        listener.close()
        server.drain(grace: 0) {}
        durableLog.close { [self, dataDirectory] in
            fetches.close {
                self.closeStores {
                    dataDirectory.close()
                    completion()
                }
            }
        }
        resumeConditionWaiters(now: seams.clock.now)
    }
}

extension [RaftGroup] {
    subscript(_ id: GroupID) -> RaftGroup? { first { $0.id == id } }
}
