import Prelude
import Raft
import Storage
import Wire
import Workflow

/// Makes a new cluster of one node out of what a member has whose cluster has lost its majority for ever.
///
/// Everything in the member's log counts as committed. What a majority had acknowledged, this member perhaps among it,
/// is kept that way as far as it is here at all; what nobody had confirmed yet may take effect as well.
///
/// Holds the data directory from its start to `close`. Confined to one loop.
public final class ClusterRecovery {
    /// What one group would go on from.
    public struct GroupReport: Equatable, Sendable {
        public var group: GroupID
        /// The newest entry that this node has.
        public var last: LogPoint
        /// Up to where this node had heard that entries are committed, when it last wrote that down.
        public var knownCommit: LogIndex
        public var configuration: ConfState
    }

    public struct Report: Equatable, Sendable {
        public var directory: String
        public var clusterID: String
        public var nodeID: NodeID
        public var groups: [GroupReport]
        /// As the directory of the cluster has them here.
        public var members: [DirectoryMember]

        public var otherMembers: [DirectoryMember] { members.filter { $0.nodeID != nodeID } }
    }

    public let report: Report
    /// Why `carryOut` has left runs behind that ended so long ago that only the state store had them: a damaged store.
    public private(set) var runsLeftBehind: StorageError?
    private let dataDirectory: DataDirectory
    private let identity: NodeIdentity
    private let recovered: [AppliedLog]
    private let directory: DirectoryMachine
    private let limits: Limits

    /// Reads what the directory holds and changes nothing in it. Blocks.
    public init(dataDirectory path: String, disk: any Disk, limits: Limits = Limits()) throws(NodeError) {
        do throws(StorageError) {
            dataDirectory = try DataDirectory.open(path, disk: disk, mustExist: true)
        } catch {
            throw .storage(error)
        }
        self.limits = limits
        do throws(NodeError) {
            guard let found = dataDirectory.identity, !found.groups.isEmpty, found.nodeID != .none else {
                throw .cannotRecover(directory: path, reason: "it does not hold a node")
            }
            identity = found
            directory = DirectoryMachine()
            recovered = try Self.recover(found, dataDirectory, directory, disk: disk, limits: limits)
            guard found.groups.contains(.directory), !directory.state.members.isEmpty else {
                throw .cannotRecover(
                    directory: path, reason: "the node had joined a cluster, and had not received anything from it yet")
            }
        } catch {
            dataDirectory.close()
            guard case .storage(.damaged(let file, let offset, let reason)) = error else { throw error }
            // Nobody is left to fetch the data from, as a start would advise.
            throw .cannotRecover(directory: path, reason: "\(file) is damaged at byte \(offset): \(reason)")
        }
        report = Report(
            directory: path, clusterID: identity.clusterID, nodeID: identity.nodeID,
            groups: recovered.map {
                GroupReport(
                    group: $0.group, last: $0.last, knownCommit: $0.hardState.commit, configuration: $0.configuration)
            }, members: directory.state.members)
    }

    public func close() { dataDirectory.close() }

    /// Makes the new cluster, which has one member, under `address`. Afterwards the directory holds that member; after
    /// a failure or a crash it holds the old one, unchanged, or the new one.
    public func carryOut(
        address: HostPort, disk: any Disk, work: any Work, randomSeed: UInt64
    ) async throws(NodeError) -> NodeIdentity {
        var random = SeededRandom(seed: randomSeed)
        guard let (new, state) = NewCluster.successor(of: directory.state, address: address, &random) else {
            throw .cannotRecover(directory: report.directory, reason: "all node ids are spent")
        }
        let cluster = NewCluster(
            identity: new,
            groups: recovered.map { group in
                NewCluster.Group(
                    id: group.group,
                    position: LogPoint(
                        index: group.last.index + 1, term: max(group.last.term, group.hardState.term) + 1),
                    digest: group.digest,
                    machine: group.group == .directory ? state.encoded() : group.machine.snapshot())
            })
        let next = try onStorage { () throws(StorageError) in try dataDirectory.prepareNextData() }
        try await cluster.write(to: next, disk: disk, work: work, limits: limits.log)
        for group in recovered { try carryForgottenRuns(of: group, to: next, disk: disk) }
        try onStorage { () throws(StorageError) in try dataDirectory.use(next, as: new) }
        return new
    }

    /// They are in no machine, and so in none of the snapshots that the new cluster goes on from.
    private func carryForgottenRuns(
        of group: AppliedLog, to next: DataDirectory.NextData, disk: any Disk
    ) throws(NodeError) {
        guard let machine = group.machine as? WorkflowGroupMachine else { return }
        let metadata = SnapshotMetadata(index: group.last.index, term: group.last.term, confState: group.configuration)
        var batch = StateBatch(head: StateHead(metadata: metadata, digest: group.digest))
        machine.fill(&batch)
        do throws(StorageError) {
            try StateStore.carryForgottenRuns(
                of: group.group, from: dataDirectory.statePath, to: next.statePath, batch, disk: disk,
                limits: limits.state)
        } catch {
            // What runs and what is remembered is worth more than what ended long ago.
            guard case .damaged = error else { throw .storage(error) }
            runsLeftBehind = error
        }
    }

    // MARK: - What the node has

    private static func recover(
        _ identity: NodeIdentity, _ dataDirectory: DataDirectory, _ directory: DirectoryMachine, disk: any Disk,
        limits: Limits
    ) throws(NodeError) -> [AppliedLog] {
        let logs = try onStorage { () throws(StorageError) in
            try DurableLog.read(directory: dataDirectory.logPath, disk: disk)
        }
        var found: [AppliedLog] = []
        for group in identity.groups.sorted() {
            let (snapshot, stored) = try onStorage { () throws(StorageError) in
                (
                    try SnapshotStore.newest(of: group, in: dataDirectory.snapshotsPath, disk: disk),
                    try StateStore.read(group, directory: dataDirectory.statePath, disk: disk, limits: limits.state)
                )
            }
            let machine: any ReplicatedMachine =
                group == .directory ? directory : WorkflowGroupMachine(group: group, limits: limits.workflow)
            var recovered = AppliedLog(group: group, node: identity.nodeID, machine: machine)
            if let stored, stored.head.metadata.index >= snapshot?.metadata.index ?? 0 {
                try recovered.take(stored)
            } else {
                try recovered.take(snapshot)
            }
            try recovered.apply(logs[group] ?? RecoveredGroup(), limits.raft)
            found.append(recovered)
        }
        return found
    }
}
