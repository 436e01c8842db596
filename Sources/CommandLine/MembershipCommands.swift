import ArgumentParser
import Raftoral

extension ClusterCommand {
    struct Members: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show who is a member, and its part in each group as the group's leader sees it.")
        @OptionGroup var options: ClientOptions

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let asked = try await client.call(
                ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self)
            if options.output == .json { return Console.json(ClusterView(asked)) }
            let leaders = await MembershipWatch(client, members: asked.members).leadersViews()
            let groups = asked.groups.map(\.groupID)
            let rows = asked.members.map { member in
                ["\(member.nodeID)", member.address, member.protocolLevel == 0 ? "-" : "\(member.protocolLevel)"]
                    + groups.map { part(of: member.nodeID, in: leaders[$0]) ?? "joining" }
            }
            // Removed, and still counted by a group that cannot do without them.
            let leaving = Set(leaders.values.flatMap(\.replicas).map(\.nodeID)).subtracting(asked.members.map(\.nodeID))
            let leavingRows = leaving.sorted().map { node in
                ["\(node)", "removed", "-"] + groups.map { part(of: node, in: leaders[$0]) ?? "-" }
            }
            Console.out("cluster \(asked.clusterID), protocol level \(asked.protocolLevel)")
            Console.table(["ID", "ADDRESS", "LEVEL"] + groups.map { "GROUP \($0)" }, rows + leavingRows)
        }

        /// Nil when it has none.
        private func part(of node: NodeID, in view: GroupStatus?) -> String? {
            guard let view else { return "no leader" }
            guard let replica = view.replicas.first(where: { $0.nodeID == node }) else { return nil }
            if view.leaderNodeID == node { return "leader" }
            let part = replica.isVoter ? "voter" : "learner"
            if !replica.isRecentlyActive { return "\(part), silent" }
            let missing = view.lastIndex.rawValue - min(view.lastIndex.rawValue, replica.matchIndex.rawValue)
            return missing == 0 ? part : "\(part), \(missing) entries behind"
        }
    }

    struct Remove: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a node for ever, and wait until every group goes on without it.")
        @OptionGroup var options: ClientOptions
        @OptionGroup var removal: RemovalOptions
        @Argument(help: "The node's id.") var node: UInt64

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let watch = try await MembershipWatch.start(client)
            try await removal.remove(NodeID(node), client, watch)
        }
    }

    struct Replace: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a node that has joined in the place of another, dead or alive.",
            discussion: """
                Start the new node first: raftoral serve --peers …. This command waits until it has everything in every \
                group, and then removes the old one. It can be repeated at any point.
                """)
        @OptionGroup var options: ClientOptions
        @OptionGroup var removal: RemovalOptions
        @Argument(help: "The id of the node that goes.") var old: UInt64
        @Argument(help: "The id of the node that takes its place.") var new: UInt64

        func validate() throws {
            if old == new { throw ValidationError("A node cannot take its own place.") }
        }

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let watch = try await MembershipWatch.start(client)
            guard watch.members.contains(where: { $0.nodeID == NodeID(new) }) else {
                throw ClientFailure(
                    "there is no node \(new) in the cluster"
                        + "\n  • Start it first: raftoral serve --peers ADDRESS …; it tells its id.")
            }
            let end = client.seams.clock.now + .seconds(max(1, removal.wait))
            try await watch.wait(until: end, "node \(new) to catch up", "node \(new) has not caught up") { view in
                !view.hasCaughtUp(NodeID(new))
            }
            Console.out("node \(new) has caught up")
            try await removal.remove(NodeID(old), client, watch)
        }
    }
}

struct RemovalOptions: ParsableArguments {
    @Option(help: "Seconds to wait until every group is without the node. 0: do not wait.")
    var wait: UInt64 = 300

    @Flag(help: "Even when too few living voters would stay. Groups still keep the node until they can do without it.")
    var force = false

    func validate() throws {
        guard wait <= 86_400 else { throw ValidationError("--wait is up to 86400 seconds.") }
    }

    func remove(_ node: NodeID, _ client: ClusterClient, _ watch: MembershipWatch) async throws(ClientFailure) {
        _ = try await client.call(
            ClusterServicePath.remove, RemoveRequest(nodeID: node, isForced: force), RemoveResponse.self, kind: .write)
        if wait > 0 {
            let end = client.seams.clock.now + .seconds(wait)
            try await watch.wait(
                until: end, "the groups to go on without node \(node)", "node \(node) is removed, and still a member"
            ) { view in view.replicas.contains { $0.nodeID == node } }
        }
        Console.out("node \(node) is removed")
    }
}

extension GroupStatus {
    /// In the view of the group's leader. As near to the end of the log as a voter has to be.
    fileprivate func hasCaughtUp(_ node: NodeID) -> Bool {
        guard let replica = replicas.first(where: { $0.nodeID == node }), replica.isRecentlyActive else { return false }
        return replica.matchIndex > 0 && replica.matchIndex + Limits().node.caughtUpEntryCount >= lastIndex
    }
}

/// Looks at the groups through the eyes of their leaders: what others know of a configuration may be old.
struct MembershipWatch {
    let client: ClusterClient
    let members: [ClusterMember]

    private static let pause = Nanoseconds.milliseconds(250)

    init(_ client: ClusterClient, members: [ClusterMember]) {
        self.client = client
        self.members = members
    }

    static func start(_ client: ClusterClient) async throws(ClientFailure) -> MembershipWatch {
        let asked = try await client.call(
            ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self)
        return MembershipWatch(client, members: asked.members)
    }

    /// By group; without those that have no leader now. Of two that both say so, the one of the later term.
    func leadersViews() async -> [GroupID: GroupStatus] {
        var views: [GroupID: GroupStatus] = [:]
        for member in members {
            guard let address = HostPort(member.address),
                let status = try? await client.call(
                    ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self, at: address,
                    timeout: min(5, client.options.timeout))
            else { continue }
            for group in status.groups where group.leaderNodeID == status.nodeID {
                if let known = views[group.groupID], known.term > group.term { continue }
                views[group.groupID] = group
            }
            // The rest may be dead, and would only take time.
            if views.count == status.groups.count, status.groups.allSatisfy({ $0.term <= views[$0.groupID]?.term ?? 0 })
            {
                break
            }
        }
        return views
    }

    /// Waits until no group is `unfinished`, and tells which are whenever that changes.
    func wait(
        until deadline: Nanoseconds, _ what: String, _ failure: String, unfinished: (GroupStatus) -> Bool
    ) async throws(ClientFailure) {
        var told = ""
        while true {
            let views = await leadersViews()
            let left = views.values.filter(unfinished).map(\.groupID).sorted()
            // Group 0 always exists; without the view of its leader nothing is known.
            if views[.directory] != nil, left.isEmpty { return }
            let names = left.map { "group \($0)" }.joined(separator: ", ")
            let state = names.isEmpty ? "no leader is known" : names
            // Beside the answer, which others may read.
            if state != told { Console.error("waiting for \(what): \(state)") }
            told = state
            guard client.seams.clock.now < deadline else {
                throw ClientFailure(
                    "\(failure): \(state)\n  • 'raftoral cluster members' shows which nodes are silent; the cluster goes on"
                        + " by itself once it can. Run the command again to wait on.")
            }
            await client.pause(Self.pause)
        }
    }
}
