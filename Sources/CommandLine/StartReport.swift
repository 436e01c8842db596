import Raftoral

/// The lines that a starting node prints.
struct StartReport {
    private var id: NodeID = .none

    mutating func print(_ event: StartEvent) {
        for line in lines(for: event) { Console.out(line) }
    }

    mutating func lines(for event: StartEvent) -> [String] {
        switch event {
        case .starting(let address, let mode):
            return ["🚀 Starting Raftoral node...", "   Address: \(address)", "   Mode: \(Self.text(mode))"]
        case .discovering(let peers):
            let list = peers.map { "\"\($0)\"" }.joined(separator: ", ")
            return ["   Discovering peers: [\(list)]"]
        case .discovered(let peer):
            return [
                "✓ Discovered peer at \(peer.address): node_id=\(peer.nodeID), role=\(peer.role.title), "
                    + "highest_known=\(peer.highestKnownNodeID)"
            ]
        case .discoveryFailed(let peer, let reason): return ["✗ Failed to discover peer at \(peer): \(reason)"]
        case .nodeID(let id, let source):
            self.id = id
            return ["   \(Self.text(source)): \(id)"]
        case .repairing(let reason): return ["✗ \(reason)", "   Fetching the data again from the cluster..."]
        case .dropping(let id):
            guard let id else {
                return [
                    "✓ Dropping the damaged data. Its node id cannot be read: remove the old member, if there is one, "
                        + "with 'raftoral cluster remove'"
                ]
            }
            return ["✓ Node \(id) has left the cluster: dropping its damaged data"]
        case .clusterNodes(let count): return ["   Cluster nodes: \(count) total"]
        case .clusterInitialised: return ["✓ Raft cluster initialized"]
        case .listening(let address): return ["✓ gRPC server listening on \(address)"]
        case .runtimeReady:
            return [
                "✓ Workflow runtime ready", "", "🎉 Node \(id) is running!", "   Press Ctrl+C to shutdown gracefully",
            ]
        }
    }

    private static func text(_ mode: StartMode) -> String {
        switch mode {
        case .bootstrap: "Bootstrap (starting new cluster)"
        case .join: "Join existing cluster"
        case .resume(bootstrapFlagIgnored: false): "Resume (data directory holds a node)"
        case .resume(bootstrapFlagIgnored: true): "Resume (data directory holds a node; --bootstrap ignored)"
        }
    }

    private static func text(_ source: NodeIDSource) -> String {
        switch source {
        case .bootstrap, .own: "Node ID"
        case .assigned: "Auto-assigned node ID"
        case .configured: "Using provided node ID"
        }
    }
}
