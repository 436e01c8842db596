import Prelude
import Telemetry
@_spi(Planted) import Raft
import Wire

/// How a node starts.
public struct NodeConfiguration: Sendable {
    /// Where to listen. Port 0 takes a free one.
    public var address: HostPort
    /// Where the other nodes reach this one. Nil: `address`, with the host name in place of a wildcard.
    public var advertisedAddress: HostPort?
    /// Nil: assigned by the cluster, or 1 for the first node.
    public var nodeID: NodeID?
    /// Start a new cluster when the data directory holds none.
    public var bootstrap: Bool
    /// Whom to ask when joining.
    public var peers: [HostPort]
    /// A directory of this node alone.
    public var dataDirectory: String
    public var discoveryTimeoutSeconds: UInt64
    /// When the data is damaged: drop it, and fetch it again from the cluster of `peers` as a new member. Data that is
    /// not damaged is never dropped.
    public var repairsFromPeers = false
    /// The name by which other machines know this one, for a wildcard bind.
    public var hostName: String
    public var limits: Limits
    /// Who may call what. Nil: everybody everything.
    public var access: AccessControl?
    /// Metrics that the program counts by itself; they appear beside those of the node.
    public var metrics = MetricsRegistry()
    /// For tests: what the node says it knows, in the place of `Version.protocolLevel`.
    @_spi(Simulation) public var protocolLevel = Version.protocolLevel
    @_spi(Simulation) public var observer: (any NodeObserver)?
    @_spi(Planted) public var plantedBugs: NodePlantedBugs = []
    @_spi(Planted) public var plantedCoreBugs: PlantedBugs = []

    public init(
        address: HostPort, dataDirectory: String, bootstrap: Bool = false, peers: [HostPort] = [],
        nodeID: NodeID? = nil, advertisedAddress: HostPort? = nil, discoveryTimeoutSeconds: UInt64 = 30,
        hostName: String = "localhost", limits: Limits = Limits()
    ) {
        self.address = address
        self.advertisedAddress = advertisedAddress
        self.nodeID = nodeID
        self.bootstrap = bootstrap
        self.peers = peers
        self.dataDirectory = dataDirectory
        self.discoveryTimeoutSeconds = discoveryTimeoutSeconds
        self.hostName = hostName
        self.limits = limits
    }

    /// Where the other nodes reach this one, once it listens on `bound`.
    func advertised(bound: HostPort) -> HostPort {
        if let advertisedAddress { return advertisedAddress }
        let isWildcard = ["0.0.0.0", "::", "*"].contains(address.host)
        return HostPort(host: isWildcard ? hostName : address.host, port: bound.port)
    }
}

/// What happens while a node starts, for whoever wants to show it.
public enum StartEvent: Sendable {
    /// `resumed`: the data directory held the node already.
    case starting(address: HostPort, mode: StartMode)
    case discovering(peers: [HostPort])
    case discovered(DiscoveredPeer)
    case discoveryFailed(peer: HostPort, reason: String)
    case nodeID(NodeID, assigned: NodeIDSource)
    /// The data is damaged, in the way that `reason` tells, and will be fetched again from the cluster.
    case repairing(reason: String)
    /// The cluster has let the node of this id go; its data is dropped now. Nil: its id could not be read.
    case dropping(NodeID?)
    case clusterNodes(Int)
    case clusterInitialised
    case listening(HostPort)
    case runtimeReady
}

public enum StartMode: Sendable { case bootstrap, join, resume(bootstrapFlagIgnored: Bool) }

public enum NodeIDSource: Sendable { case bootstrap, configured, assigned, own }

/// One answer to `Discover`.
public struct DiscoveredPeer: Equatable, Sendable {
    public var address: HostPort
    public var nodeID: NodeID
    public var role: NodeRole
    public var highestKnownNodeID: NodeID
    public var clusterID: String
    /// Nil when the peer knows of no leader.
    public var leaderAddress: HostPort?
    /// From the question to the answer, a new connection included.
    public var latency: Nanoseconds

    public init(
        address: HostPort, nodeID: NodeID, role: NodeRole, highestKnownNodeID: NodeID, clusterID: String = "",
        leaderAddress: HostPort? = nil, latency: Nanoseconds = 0
    ) {
        self.address = address
        self.nodeID = nodeID
        self.role = role
        self.highestKnownNodeID = highestKnownNodeID
        self.clusterID = clusterID
        self.leaderAddress = leaderAddress
        self.latency = latency
    }
}

/// Whom a joiner asks, one after the other: the leader, which is nearest to the log, then the others, the nearest first.
func joinTargets(_ found: [DiscoveredPeer]) -> [HostPort] {
    let leaders = found.filter { $0.role == .leader }.map(\.address) + found.compactMap(\.leaderAddress)
    var seen: Set<HostPort> = []
    return (leaders + found.sorted { $0.latency < $1.latency }.map(\.address)).filter { seen.insert($0).inserted }
}

/// The id that a joiner expects: one above the highest that any peer has ever heard of; 1 without peers.
public func nextNodeID(_ peers: [DiscoveredPeer]) -> NodeID {
    let highest = peers.map { max($0.highestKnownNodeID, $0.nodeID).rawValue }.max() ?? 0
    return NodeID(highest == .max ? highest : highest + 1)
}
