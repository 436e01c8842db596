import Prelude

/// A node as others see it.
public struct NodeConfig: Hashable, Sendable {
    public var nodeID: NodeID
    /// Where it is reached.
    public var address: HostPort

    public init(nodeID: NodeID, address: HostPort) {
        self.nodeID = nodeID
        self.address = address
    }
}
