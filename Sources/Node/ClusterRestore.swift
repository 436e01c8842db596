import Prelude
import Raft
import Storage
import Wire
import Workflow

/// Makes a data directory of a new cluster's first node out of a backup.
public enum ClusterRestore {
    public struct Outcome: Sendable {
        public var identity: NodeIdentity
        public var info: BackupInfo
        /// Those that run, and the ended ones that still answer.
        public var runCount: Int
        public var variableCount: Int
    }

    /// After a failure or a crash the directory is one that nobody has used, and this can be tried again. Reading blocks.
    public static func restore(
        _ file: String, into path: String, address: HostPort, disk: any Disk, work: any Work, randomSeed: UInt64,
        limits: Limits = Limits()
    ) async throws(NodeError) -> Outcome {
        let directory = try onStorage { () throws(StorageError) in try DataDirectory.open(path, disk: disk) }
        defer { directory.close() }
        if let identity = directory.identity, !identity.groups.isEmpty {
            throw .cannotUseBackup(
                file: file, reason: "\(path) holds node \(identity.nodeID) of cluster \(identity.clusterID)")
        }
        var random = SeededRandom(seed: randomSeed)
        let group = GroupID.firstWorkflows
        let copy = try copy(file, directory)
        defer { try? directory.dropBackups() }
        let (state, info) = try read(file, copy, group, disk)
        let machine: WorkflowMachine
        let old: DirectoryState
        do {
            machine = try WorkflowMachine(
                try MachineContent(state, group: group), group: group, limits: limits.workflow)
            old = try DirectoryState(decoding: info.directory)
        } catch {
            throw .cannotUseBackup(file: file, reason: "\(error)")
        }
        guard old.groupIDs == [.directory, group],
            let (new, members) = NewCluster.successor(
                of: old, address: address, &random)
        else { throw .cannotUseBackup(file: file, reason: "its cluster has other groups, or all node ids are spent") }
        let head = state.head.metadata
        let cluster = NewCluster(
            identity: new,
            groups: [
                .init(id: .directory, position: LogPoint(index: 1, term: 1), digest: 0, machine: members.encoded()),
                .init(
                    id: group, position: LogPoint(index: head.index + 1, term: head.term + 1),
                    digest: state.head.digest, machine: machine.snapshot()),
            ])
        // Of nobody until all is there: a crash in between leads here again.
        var nobody = new
        nobody.groups = []
        try onStorage { () throws(StorageError) in try directory.saveIdentity(nobody) }
        let next = try onStorage { () throws(StorageError) in try directory.prepareNextData() }
        try await cluster.write(to: next, disk: disk, work: work, limits: limits.log)
        // Ended runs that the machine has forgotten are in no snapshot.
        try onStorage { () throws(StorageError) in
            try BackupFile.makeStore(of: copy, group: group, in: next.statePath, disk: disk)
        }
        try onStorage { () throws(StorageError) in try directory.use(next, as: new) }
        return Outcome(
            identity: new, info: info, runCount: state.runs.count, variableCount: state.variables.count)
    }

    /// SQLite may write to what it opens.
    private static func copy(_ file: String, _ directory: DataDirectory) throws(NodeError) -> String {
        do throws(StorageError) {
            return try directory.copyBackup(file)
        } catch {
            throw cannotUse(file, error)
        }
    }

    private static func read(
        _ file: String, _ copy: String, _ group: GroupID, _ disk: any Disk
    ) throws(NodeError) -> (StoredState, BackupInfo) {
        do throws(StorageError) {
            return try BackupFile.read(copy, group: group, disk: disk)
        } catch {
            throw cannotUse(file, error)
        }
    }

    private static func cannotUse(_ file: String, _ error: StorageError) -> NodeError {
        switch error {
        case .damaged(_, let offset, let reason):
            .cannotUseBackup(file: file, reason: "it is damaged at byte \(offset): \(reason)")
        case .newerVersion(_, let found, let known):
            .storage(.newerVersion(file: file, found: found, known: known))
        default: .storage(error)
        }
    }
}
