import ArgumentParser
import Glibc
import Raftoral

extension ClusterCommand {
    /// Works on the files of a stopped node; asks no other one.
    struct Recover: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a new cluster of one node out of a stopped survivor, when a majority is lost for ever.",
            discussion: """
                Says what the survivor has and what may be lost, and asks before it changes anything. The new cluster has \
                an id of its own, and its node a fresh one: what is left of the old cluster never speaks to it. Keep a \
                copy of the directory until all is well. Then start the node as ever, and let others join with --peers \
                and empty data directories.
                """)

        @Option(name: .customLong("data-dir"), help: "The survivor's data directory.") var dataDirectory: String
        @Option(help: "HOST:PORT at which other nodes will reach this one.") var address: HostPort
        @Flag(help: "Do not ask.") var yes = false

        func run() throws {
            try OfflineCommand.run { loop throws(NodeError) in try await recover(loop) }
        }

        /// Gives why nothing was done, if so.
        private func recover(_ loop: EventLoop) async throws(NodeError) -> String? {
            let disk = FileDisk()
            let recovery = try ClusterRecovery(dataDirectory: dataDirectory, disk: disk)
            defer { recovery.close() }
            for line in recovery.report.lines { Console.out(line) }
            guard yes || isConfirmed() else { return "Not confirmed: nothing was changed.\n  • --yes confirms it." }
            let new = try await recovery.carryOut(
                address: address, disk: disk, work: loop.work, randomSeed: SystemRandomNumberGenerator.seed())
            Console.out("✓ \(dataDirectory) is node \(new.nodeID) of the new cluster \(new.clusterID)")
            if let damage = recovery.runsLeftBehind {
                Console.out("! Runs that ended long ago are left behind: \(damage)")
                Console.out(
                    "  They are in the copy of the directory that you have made; all others are in the new cluster.")
            }
            Console.out("  Start it: raftoral --address \(address) --data-dir \(dataDirectory)")
            Console.out("  Then let others join: raftoral --address … --peers \(address), with empty data directories")
            return nil
        }

        private func isConfirmed() -> Bool {
            guard isatty(STDIN_FILENO) != 0 else { return false }
            Console.out("Type yes to make the new cluster:")
            return readLine() == "yes"
        }
    }
}

extension ClusterRecovery.Report {
    var lines: [String] {
        var lines = ["\(directory) holds node \(nodeID) of cluster \(clusterID)."]
        for group in groups {
            let voters = Set(group.configuration.voters + group.configuration.votersOutgoing).sorted()
            lines.append(
                "  group \(group.group): entries up to \(group.last.index) of term \(group.last.term), known to be "
                    + "committed up to \(group.knownCommit); "
                    + (voters.isEmpty ? "its voters are not known here" : "voters \(list(voters))"))
        }
        if otherMembers.isEmpty {
            lines.append("It knows of no other member: start it as it is, unless you want a cluster with another id.")
            return lines
        }
        lines.append("Other members, which will never be able to come back with their data:")
        lines += otherMembers.map { "  node \($0.nodeID) at \($0.address)" }
        lines.append("What may be lost, and cannot be known from here:")
        for group in groups {
            lines.append(
                "  group \(group.group): all that the others acknowledged after entry \(group.last.index) of term "
                    + "\(group.last.term)")
        }
        lines.append("Entries that are here count as committed, those that no client was told of as well.")
        lines.append(
            "Ask every survivor, and take the one with the highest term of the last entry, and then the highest index.")
        return lines
    }

    private func list(_ nodes: [NodeID]) -> String { nodes.map { "\($0)" }.joined(separator: ", ") }
}
