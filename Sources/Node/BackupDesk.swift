import Prelude
import Raft
import Storage
import Wire
import Workflow

/// Makes backups of this node's workflows and variables, and hands them out piece by piece: one at a time.
///
/// A backup is an image of the state store. Confined to the loop.
final class BackupDesk {
    private struct Backup {
        var id: UInt64
        var file: ServedFile
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
        let info = BackupInfo(
            clusterID: node.clusterID, node: node.id, program: Version.text,
            createdMilliseconds: node.seams.clock.wallMilliseconds, directory: node.directory.state.encoded())
        node.makeImage(of: group, at: path) { [disk = node.seams.disk] () throws(StorageError) in
            try BackupFile.make(of: path, info: info, disk: disk)
        } completion: { [weak self, seams = node.seams] result in
            guard let self, !isClosed, !call.isCancelled else {
                self?.isMaking = false
                return ServedFile.remove(path, seams)
            }
            isMaking = false
            switch result {
            case .failure(let error): call.fail(error.backupStatus)
            case .success(let made):
                let file = ServedFile(
                    path, byteCount: made.byteCount, checksum: made.checksum, seams: node.seams,
                    pieceByteCountMax: limits.backupPieceByteCount, bytesPerSecondMax: limits.backupBytesPerSecondMax)
                current = Backup(id: id, file: file)
                watch(id)
                call.respond(
                    BeginBackupResponse(
                        backupID: id, byteCount: made.byteCount, checksum: made.checksum,
                        appliedIndex: made.head.metadata.index, nodeID: node.id))
            }
        }
    }

    // MARK: - Handing it out

    func read(_ call: any ServiceCall, _ request: ReadBackupRequest) {
        guard let backup = current, backup.id == request.backupID else { return call.fail(unknown) }
        guard backup.file.readerCount == 0 else {
            return call.fail(.resourceExhausted, "a piece of this backup is being read: one at a time")
        }
        backup.file.read(at: request.offset) { result in
            switch result {
            case .success(let piece)?:
                call.respond(ReadBackupResponse(data: piece, checksum: StateFiles.checksumOf(piece)))
            case .failure(let error)?: call.fail(error.backupStatus)
            case nil: call.fail(GRPCStatus(code: .notFound, message: "the backup is gone"))
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
        let idleTime = backup.file.idleTime
        let end = Nanoseconds.milliseconds(limits.backupIdleMilliseconds)
        guard idleTime < end else { return drop() }
        _ = node.seams.clock.schedule(after: max(end - idleTime, .milliseconds(1000))) { [weak self] in self?.watch(id)
        }
    }

    private func drop() {
        current?.file.remove()
        current = nil
    }

    func close() {
        isClosed = true
        drop()
    }
}

extension StorageError {
    fileprivate var backupStatus: GRPCStatus {
        let code: GRPCCode = if case .noSpace = self { .resourceExhausted } else { .internalError }
        return GRPCStatus(code: code, message: "the backup cannot be written: \(self)")
    }
}
