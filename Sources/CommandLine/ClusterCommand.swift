import ArgumentParser
import FoundationEssentials
import Raftoral

struct ClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Look at the cluster and change it.",
        subcommands: [Status.self, Members.self, Remove.self, Replace.self, TransferLeader.self, Recover.self])

    struct Status: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show every node of the cluster.")
        @OptionGroup var options: ClientOptions

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let asked = try await client.call(
                ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self)
            if options.output == .json { return Console.json(ClusterView(asked)) }
            var rows: [[String]] = []
            for member in asked.members {
                let own = await ownStatus(of: member, asked, client)
                for group in asked.groups { rows.append(row(member, group, own: own, asked)) }
            }
            Console.out("cluster \(asked.clusterID), asked node \(asked.nodeID) at \(asked.address)")
            Console.table(
                ["ID", "ADDRESS", "GROUP", "ROLE", "MEMBER", "LAST CONTACT", "TERM", "APPLIED", "DIGEST"], rows)
        }

        /// A node's own word; nil when it does not answer.
        private func ownStatus(
            of member: ClusterMember, _ asked: ClusterStatusResponse, _ client: ClusterClient
        ) async -> ClusterStatusResponse? {
            if member.nodeID == asked.nodeID { return asked }
            guard let address = HostPort(member.address) else { return nil }
            return try? await client.call(
                ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self, at: address,
                timeout: min(2, client.options.timeout))
        }

        private func row(
            _ member: ClusterMember, _ group: GroupStatus, own: ClusterStatusResponse?, _ asked: ClusterStatusResponse
        ) -> [String] {
            let replica = group.replicas.first { $0.nodeID == member.nodeID }
            let mine = own?.groups.first { $0.groupID == group.groupID }
            let contact =
                switch replica?.lastContactMilliseconds {
                case nil, -1: "-"
                case 0 where member.nodeID == asked.nodeID: "asked"
                case let milliseconds?: "\(milliseconds) ms"
                }
            return [
                "\(member.nodeID)", member.address, "\(group.groupID)",
                mine.map { $0.role.title } ?? "no answer",
                replica.map { $0.isVoter ? "voter" : "learner" } ?? "joining", contact,
                mine.map { "\($0.term)" } ?? "-",
                mine.map { "\($0.appliedIndex)" } ?? "-", mine?.appliedDigest ?? "-",
            ]
        }
    }

    struct TransferLeader: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Hand the leadership of a group to a node.")
        @OptionGroup var options: ClientOptions
        @Argument(help: "The node's id.") var node: UInt64
        @Option(help: "The group.") var group: UInt64 = GroupID.firstWorkflows.rawValue

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            _ = try await client.call(
                ClusterServicePath.transferLeader,
                TransferLeaderRequest(groupID: GroupID(group), nodeID: NodeID(node)), TransferLeaderResponse.self)
            Console.out("asked the leader of group \(group) to hand over to node \(node)")
        }
    }
}
