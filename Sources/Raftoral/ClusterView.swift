import Node
import Wire

/// What a node knows of its cluster, as JSON: of `cluster status --output json` and of `/debug/state`.
public struct ClusterView: Encodable {
    struct Member: Encodable {
        var nodeID: UInt64
        var address: String
        var protocolLevel: UInt32
    }

    struct Replica: Encodable {
        var nodeID: UInt64
        var voter: Bool
        var matchIndex: UInt64
        var recentlyActive: Bool
        var lastContactMilliseconds: Int64
    }

    struct Group: Encodable {
        var groupID: UInt64
        var role: String
        var term: UInt64
        var leaderNodeID: UInt64
        var commitIndex: UInt64
        var appliedIndex: UInt64
        var firstIndex: UInt64
        var lastIndex: UInt64
        var appliedDigest: String
        var replicas: [Replica]
    }

    var nodeID: UInt64
    var clusterID: String
    var address: String
    var version: String
    var protocolLevel: UInt32
    var members: [Member]
    var groups: [Group]

    public init(_ status: ClusterStatusResponse) {
        nodeID = status.nodeID.rawValue
        clusterID = status.clusterID
        address = status.address
        version = status.version
        protocolLevel = status.protocolLevel
        members = status.members.map {
            Member(nodeID: $0.nodeID.rawValue, address: $0.address, protocolLevel: $0.protocolLevel)
        }
        groups = status.groups.map { group in
            Group(
                groupID: group.groupID.rawValue, role: group.role.title, term: group.term.rawValue,
                leaderNodeID: group.leaderNodeID.rawValue, commitIndex: group.commitIndex.rawValue,
                appliedIndex: group.appliedIndex.rawValue, firstIndex: group.firstIndex.rawValue,
                lastIndex: group.lastIndex.rawValue, appliedDigest: group.appliedDigest,
                replicas: group.replicas.map {
                    Replica(
                        nodeID: $0.nodeID.rawValue, voter: $0.isVoter, matchIndex: $0.matchIndex.rawValue,
                        recentlyActive: $0.isRecentlyActive, lastContactMilliseconds: $0.lastContactMilliseconds)
                })
        }
    }
}

extension NodeRole {
    /// As people are shown it.
    public var title: String {
        switch self {
        case .follower: "Follower"
        case .candidate: "Candidate"
        case .leader: "Leader"
        case .learner: "Learner"
        }
    }
}
