import ArgumentParser
import Glibc
import Raftoral

struct BackupCommand: ClientCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup", abstract: "Write all workflows and variables of a running cluster to a file.",
        discussion: """
            Everything that the cluster had acknowledged before the command began is in it. The file is a SQLite \
            database: sqlite3 FILE 'SELECT * FROM workflows' shows what there is. 'raftoral restore' makes a cluster of it.
            """)
    @OptionGroup var options: ClientOptions
    @Option(help: "The file to write.") var out: String
    @Flag(help: "Replace the file when it exists.") var force = false

    func run(_ client: ClusterClient) async throws(ClientFailure) {
        let disk = client.seams.disk
        if !force, (try? disk.open(out, .readOnly))?.close() != nil {
            throw ClientFailure("\(out) exists\n  • Choose another name, or replace it with --force.")
        }
        let (begun, address) = try await begin(client)
        let file = try onDisk { () throws(StorageError) in try IncomingFile(out, disk: disk) }
        do throws(ClientFailure) {
            try await fetch(begun, from: address, into: file, client)
            try onDisk { () throws(StorageError) in try file.finish() }
        } catch {
            file.abandon()
            throw error
        }
        _ = try? await client.call(
            ClusterServicePath.endBackup, EndBackupRequest(backupID: begun.backupID), EndBackupResponse.self,
            at: address, timeout: options.timeout)
        Console.out(
            "✓ \(out): \(begun.byteCount) bytes, everything up to entry \(begun.appliedIndex) of group 1, "
                + "from node \(begun.nodeID) at \(address)")
    }

    /// From the first node that makes one. It has all the time that it needs.
    private func begin(
        _ client: ClusterClient
    ) async throws(ClientFailure) -> (BeginBackupResponse, HostPort) {
        var last: ClientFailure?
        for address in options.address.addresses {
            do throws(ClientFailure) {
                let begun = try await client.call(
                    ClusterServicePath.beginBackup, BeginBackupRequest(), BeginBackupResponse.self, at: address,
                    timeout: 86_400)
                return (begun, address)
            } catch {
                last = error
            }
        }
        throw last ?? ClientFailure("no address is given")
    }

    private func fetch(
        _ begun: BeginBackupResponse, from address: HostPort, into file: IncomingFile, _ client: ClusterClient
    ) async throws(ClientFailure) {
        var told = -1
        while file.byteCount < begun.byteCount {
            let request = ReadBackupRequest(backupID: begun.backupID, offset: file.byteCount)
            let piece = try await read(request, from: address, client)
            guard !piece.data.isEmpty, StateFiles.checksumOf(piece.data) == piece.checksum else {
                throw ClientFailure("a piece of the backup arrived damaged: try again")
            }
            try onDisk { () throws(StorageError) in try file.append(piece.data) }
            let percent = Int(file.byteCount * 100 / max(1, begun.byteCount))
            guard percent / 10 > told, percent < 100 else { continue }
            told = percent / 10
            Console.error("\(percent) % of \(begun.byteCount) bytes")
        }
        guard file.byteCount == begun.byteCount, file.checksum == begun.checksum else {
            throw ClientFailure("the backup that arrived is not the one that was made: try again")
        }
    }

    /// Again after a broken connection: a piece is read from where the last one ended.
    private func read(
        _ request: ReadBackupRequest, from address: HostPort, _ client: ClusterClient
    ) async throws(ClientFailure) -> ReadBackupResponse {
        var attempt = 0
        while true {
            do throws(ClientFailure) {
                return try await client.call(
                    ClusterServicePath.readBackup, request, ReadBackupResponse.self, at: address,
                    timeout: options.timeout)
            } catch {
                attempt += 1
                guard error.mayPass, attempt < 10 else { throw error }
                await client.pause(.milliseconds(500))
            }
        }
    }

    private func onDisk<Value>(_ body: () throws(StorageError) -> Value) throws(ClientFailure) -> Value {
        do { return try body() } catch {
            switch error {
            case .disk(let error), .noSpace(let error): throw ClientFailure("\(error)")
            default: throw ClientFailure("\(error)")
            }
        }
    }
}

struct RestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Make a data directory of a new cluster's first node out of a backup.",
        discussion: """
            Then start that node as ever, without --bootstrap and --peers, and let others join it: a cluster of any size. \
            Workflows that were running go on. The cluster has an id of its own, and knows nothing of the nodes of the old one.
            """)
    @Option(help: "The file that 'raftoral backup' has written.") var from: String
    @Option(name: .customLong("data-dir"), help: "An empty directory, or one that does not exist.")
    var dataDirectory: String
    @Option(help: "HOST:PORT at which other nodes will reach this one.") var address: HostPort

    func run() throws {
        try OfflineCommand.run { loop throws(NodeError) in
            let outcome = try await ClusterRestore.restore(
                from, into: dataDirectory, address: address, disk: FileDisk(), work: loop.work,
                randomSeed: SystemRandomNumberGenerator.seed())
            let new = outcome.identity
            Console.out(
                "✓ \(dataDirectory) is node \(new.nodeID) of the new cluster \(new.clusterID), with "
                    + "\(outcome.runCount) runs and \(outcome.variableCount) variables of cluster "
                    + outcome.info.clusterID)
            Console.out("  Start it: raftoral --address \(address) --data-dir \(dataDirectory)")
            Console.out("  Then let others join: raftoral --address … --peers \(address), with empty data directories")
            return nil
        }
    }
}

/// What works on the files of a stopped node.
enum OfflineCommand {
    private final class Outcome { var failure: String? }

    /// Runs `body` on a loop; it gives why nothing was done, if so.
    static func run(_ body: @escaping (EventLoop) async throws(NodeError) -> String?) throws {
        let loop = try EventLoop()
        let outcome = Outcome()
        let work = LoopBound((loop: loop, outcome: outcome, body: body), to: loop)
        loop.start {
            let (loop, outcome, body) = work.value
            do throws(NodeError) {
                outcome.failure = try await body(loop)
            } catch {
                outcome.failure = "\(error)"
            }
            loop.stop()
        }
        loop.run()
        loop.close()
        guard let failure = outcome.failure else { return }
        Console.error("✗ \(failure)")
        throw ExitCode(1)
    }
}
