import Prelude
import Raft
import Storage
import Wire
import Workflow

/// A cluster of one node that goes on from a state which another cluster had: what a recovery and a restore make.
struct NewCluster {
    struct Group {
        var id: GroupID
        /// The first index and term of the new cluster. Above all that the state was made of.
        var position: LogPoint
        var digest: UInt64
        var machine: [UInt8]
    }

    var identity: NodeIdentity
    var groups: [Group]

    /// Who the one node is, and the directory of its cluster. Nil when all node ids are spent.
    ///
    /// Ids of the old cluster stay spent: by them the state remembers who proposed what.
    static func successor(
        of old: DirectoryState, address: HostPort, _ random: inout SeededRandom
    ) -> (NodeIdentity, DirectoryState)? {
        let spent = Set(old.removedNodeIDs + old.members.map(\.nodeID)).sorted()
        let id = NodeID(max(old.highestNodeID, spent.last ?? .none).rawValue + 1)
        guard id <= DirectoryMachine.highestAssignableID else { return nil }
        let identity = NodeIdentity(
            clusterID: makeClusterID(&random), nodeID: id, incarnation: 0, advertisedAddress: address.description,
            groups: old.groupIDs.sorted())
        let directory = DirectoryState(
            clusterID: identity.clusterID, highestNodeID: id,
            members: [DirectoryMember(nodeID: id, address: address.description)], groupIDs: old.groupIDs,
            removedNodeIDs: spent, protocolLevel: old.protocolLevel)
        return (identity, directory)
    }

    /// Writes the groups' logs and snapshots, durably, into what is empty.
    func write(
        to data: DataDirectory.NextData, disk: any Disk, work: any Work, limits: LogLimits
    ) async throws(NodeError) {
        do throws(StorageError) {
            let (log, _) = try DurableLog.open(directory: data.logPath, disk: disk, work: work, limits: limits)
            do throws(StorageError) {
                let snapshots = try SnapshotStore(
                    directory: data.snapshotsPath, disk: disk, work: work, limits: limits)
                for group in groups { try await write(group, log, snapshots) }
            } catch {
                await log.closeInOrder()
                throw error
            }
            await log.closeInOrder()
        } catch {
            throw .storage(error)
        }
    }

    private func write(_ group: Group, _ log: DurableLog, _ snapshots: SnapshotStore) async throws(StorageError) {
        let metadata = SnapshotMetadata(
            index: group.position.index, term: group.position.term, confState: ConfState(voters: [identity.nodeID]))
        let snapshot = Snapshot(
            metadata: metadata, data: GroupSnapshot(digest: group.digest, machine: group.machine).encoded())
        try await withCheckedContinuation { continuation in
            snapshots.save(group.id, snapshot) { continuation.resume(returning: $0) }
        }.get()
        let hardState = HardState(term: metadata.term, vote: .none, commit: metadata.index)
        try await withCheckedContinuation { continuation in
            log.append([.snapshot(group.id, metadata), .hardState(group.id, hardState)]) {
                continuation.resume(returning: $0)
            }
        }.get()
    }
}

extension DurableLog {
    func closeInOrder() async {
        await withCheckedContinuation { continuation in close { continuation.resume() } }
    }
}

/// A name that no other cluster has.
func makeClusterID(_ random: inout SeededRandom) -> String {
    let high = UInt64.random(in: 0 ... .max, using: &random)
    let low = UInt64.random(in: 0 ... .max, using: &random)
    return String(high, radix: 36) + String(low, radix: 36)
}
