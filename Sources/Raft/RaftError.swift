import Prelude

/// Why an input was refused. Nothing was changed, but for the cases that say otherwise.
public enum RaftError: Error, Equatable, Sendable {
    /// There is no leader to take it, forwarding is off, a leadership transfer is under way, the leader was removed
    /// from the configuration, or the uncommitted tail is full. Propose again later.
    case proposalDropped
    /// A message of a kind that never leaves its node came from outside.
    case localMessage
    /// A response from a node that is not in the configuration.
    case unknownPeer
    /// A message that no correct node sends. `reason` says what is wrong with it. Its term was taken over if it was
    /// higher than the own.
    case malformedMessage(reason: String)
    /// A leader asked to overwrite a committed entry, or to commit what this node does not have: one of the two has
    /// lost or damaged its log. Its term was taken over if it was higher than the own.
    case logDiverged(reason: String)
    /// What the node was started with does not fit together.
    case invalidConfiguration(reason: String)
}

extension RaftError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .proposalDropped: "raft proposal dropped"
        case .localMessage: "raft: cannot step raft local message"
        case .unknownPeer: "raft: cannot step as peer not found"
        case .malformedMessage(let reason): "malformed raft message: \(reason)"
        case .logDiverged(let reason): "raft log diverged: \(reason)"
        case .invalidConfiguration(let reason): "invalid raft configuration: \(reason)"
        }
    }
}
