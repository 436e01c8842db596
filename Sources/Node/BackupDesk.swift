import Prelude
import Raft
import Storage
import Wire
import Workflow

/// Makes backups of this node's workflows and variables, and hands them out piece by piece: one at a time.
///
/// The loop encodes the machine as it is, which takes it the longer the larger the state; everything else is done on the
/// thread pool, from a second machine. Confined to the loop.
final class BackupDesk {
    private struct Backup {
        var id: UInt64
        var file: BackupSource.Made
        var path: String
        var lastUsed: Nanoseconds
        /// Before this the next piece would be too soon.
        var nextPieceAt: Nanoseconds = 0
        var isBeingRead = false
    }

    private unowned let node: Node
    private var current: Backup?
    private var isMaking = false
    private var isClosed = false

    init(node: Node) { self.node = node }

    private var limits: NodeLimits { node.limits.node }

    // MARK: - Making one

    func begin(_ call: any ServiceCall) {
        guard !isMaking, current == nil else {
            return call.fail(
                .resourceExhausted,
                "node \(node.id) has a backup for somebody else: try again in a minute, or ask another node")
        }
        guard let workflows = node.groups[.firstWorkflows], let directory = node.groups[.directory] else {
            return call.fail(.failedPrecondition, "node \(node.id) has no workflows")
        }
        isMaking = true
        // The directory after the workflows: it knows everybody who has proposed anything that is in the backup.
        node.readBarrier(workflows) { [weak self] result in
            guard let self else { return }
            if case .failure(let failure) = result { return refuse(call, failure.status) }
            node.readBarrier(directory) { [weak self] result in
                guard let self else { return }
                if case .failure(let failure) = result { return refuse(call, failure.status) }
                make(call, of: workflows)
            }
        }
    }

    private func refuse(_ call: any ServiceCall, _ status: GRPCStatus) {
        isMaking = false
        call.fail(status)
    }

    private func make(_ call: any ServiceCall, of group: RaftGroup) {
        guard !isClosed, !call.isCancelled else {
            return refuse(call, GRPCStatus(code: .unavailable, message: "nobody waits for the backup any more"))
        }
        let id = UInt64.random(in: 1...(.max >> 1), using: &node.random)
        let path = "\(node.dataDirectory.backupPath)/\(id).sqlite"
        let source: BackupSource
        do throws(RaftStorageError) {
            source = try BackupSource(of: group, node: node, path: path)
        } catch {
            return refuse(call, GRPCStatus(code: .internalError, message: "the log of group \(group.id): \(error)"))
        }
        let disk = node.seams.disk
        node.seams.work.perform {
            source.make(disk)
        } completion: { [weak self, work = node.seams.work] result in
            guard let self, !isClosed, !call.isCancelled else {
                self?.isMaking = false
                return Self.remove(path, disk, work)
            }
            isMaking = false
            switch result {
            case .failure(let error):
                Self.remove(path, disk, work)
                call.fail(error.backupStatus)
            case .success(let made):
                let now = node.seams.clock.now
                current = Backup(id: id, file: made, path: path, lastUsed: now)
                watch(id)
                call.respond(
                    BeginBackupResponse(
                        backupID: id, byteCount: made.byteCount, checksum: made.checksum,
                        appliedIndex: made.appliedIndex, nodeID: node.id))
            }
        }
    }

    // MARK: - Handing it out

    func read(_ call: any ServiceCall, _ request: ReadBackupRequest) {
        guard let backup = current, backup.id == request.backupID else { return call.fail(unknown) }
        guard !backup.isBeingRead else {
            return call.fail(.resourceExhausted, "a piece of this backup is being read: one at a time")
        }
        let now = node.seams.clock.now
        let byteCount = UInt64(limits.backupPieceByteCount)
        let start = max(now, backup.nextPieceAt)
        current?.isBeingRead = true
        current?.lastUsed = now
        current?.nextPieceAt = start + byteCount * 1_000_000_000 / limits.backupBytesPerSecondMax
        _ = node.seams.clock.schedule(after: start - now) { [weak self] in self?.readNow(call, backup, request.offset) }
    }

    private func readNow(_ call: any ServiceCall, _ backup: Backup, _ offset: UInt64) {
        guard current?.id == backup.id else { return call.fail(unknown) }
        let disk = node.seams.disk
        let byteCount = limits.backupPieceByteCount
        node.seams.work.perform { () -> Result<[UInt8], StorageError> in
            do throws(StorageError) {
                return .success(
                    try BackupFile.readPiece(backup.path, at: offset, byteCountMax: byteCount, disk: disk))
            } catch { return .failure(error) }
        } completion: { [weak self] result in
            guard let self, current?.id == backup.id else {
                return call.fail(GRPCStatus(code: .notFound, message: "the backup is gone"))
            }
            current?.isBeingRead = false
            current?.lastUsed = node.seams.clock.now
            switch result {
            case .success(let piece):
                call.respond(ReadBackupResponse(data: piece, checksum: BackupFile.checksumOf(piece)))
            case .failure(let error): call.fail(error.backupStatus)
            }
        }
    }

    func end(_ call: any ServiceCall, _ request: EndBackupRequest) {
        // Asked again because the answer was lost: it is gone.
        if current?.id == request.backupID { drop() }
        call.respond(EndBackupResponse())
    }

    private var unknown: GRPCStatus {
        GRPCStatus(
            code: .notFound,
            message: "node \(node.id) does not have this backup: it goes after "
                + "\(limits.backupIdleMilliseconds / 1000) s without a reader, and with the process. Begin a new one")
    }

    /// Whoever asked for it may never come back.
    private func watch(_ id: UInt64) {
        guard let backup = current, backup.id == id else { return }
        let end = backup.lastUsed + .milliseconds(limits.backupIdleMilliseconds)
        let now = node.seams.clock.now
        guard now < end || backup.isBeingRead else { return drop() }
        let pause = max(end, now + .milliseconds(1000)) - now
        _ = node.seams.clock.schedule(after: pause) { [weak self] in self?.watch(id) }
    }

    private func drop() {
        guard let backup = current else { return }
        current = nil
        Self.remove(backup.path, node.seams.disk, node.seams.work)
    }

    /// One that stays goes at the next start.
    private static func remove(_ path: String, _ disk: any Disk, _ work: any Work) {
        work.perform {
            try? BackupFile.remove(path, disk)
        } completion: { _ in
        }
    }

    func close() {
        isClosed = true
        drop()
    }
}

/// Everything that a backup is made of, as values.
struct BackupSource: Sendable {
    struct Made: Sendable {
        var byteCount: UInt64
        var checksum: UInt32
        var appliedIndex: LogIndex
    }

    private let group: GroupID
    private let node: NodeID
    private let path: String
    private let snapshot: Snapshot
    private let entries: [Entry]
    private let info: BackupInfo
    private let limits: Limits

    /// As of what the group has applied now.
    init(of group: RaftGroup, node: Node, path: String) throws(RaftStorageError) {
        self.group = group.id
        self.node = node.id
        self.path = path
        limits = node.limits
        snapshot = try group.log.snapshot()
        entries =
            group.appliedIndex > snapshot.metadata.index
            ? try group.log.entries(
                from: snapshot.metadata.index + 1, to: group.appliedIndex + 1, byteCountMax: UInt64(Int.max)) : []
        info = BackupInfo(
            clusterID: node.clusterID, node: node.id, program: Version.text,
            createdMilliseconds: node.seams.clock.wallMilliseconds, directory: node.directory.state.encoded())
    }

    /// Blocks.
    func make(_ disk: any Disk) -> Result<Made, NodeError> {
        do throws(NodeError) {
            let machine = WorkflowGroupMachine(group: group, limits: limits.workflow)
            var state = AppliedLog(group: group, node: node, machine: machine)
            try state.take(snapshot)
            let metadata = snapshot.metadata
            try state.apply(
                RecoveredGroup(start: LogPoint(index: metadata.index, term: metadata.term), entries: entries),
                limits.raft)
            let head = StateHead(
                metadata: SnapshotMetadata(
                    index: state.last.index, term: state.last.term, confState: state.configuration),
                digest: state.digest)
            return .success(
                try onStorage { () throws(StorageError) in
                    try BackupFile.make(path, info: info, group: group, disk: disk) { write throws(StorageError) in
                        try machine.machine.forEachBatch(head: head, rowCount: limits.node.backupBatchRowCount, write)
                    }
                    let (byteCount, checksum) = try BackupFile.measure(path, disk: disk)
                    return Made(byteCount: byteCount, checksum: checksum, appliedIndex: state.last.index)
                })
        } catch {
            return .failure(error)
        }
    }
}

extension NodeError {
    fileprivate var backupStatus: GRPCStatus {
        if case .storage(let error) = self { return error.backupStatus }
        return GRPCStatus(code: .internalError, message: firstLine)
    }
}

extension StorageError {
    fileprivate var backupStatus: GRPCStatus {
        let code: GRPCCode = if case .noSpace = self { .resourceExhausted } else { .internalError }
        return GRPCStatus(code: code, message: "the backup cannot be written: \(self)")
    }
}
