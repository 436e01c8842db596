/// A distinct type for a distinct number. Conforming types get ordering, hashing, literals and printing.
public protocol NumericIdentifier: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible,
    ExpressibleByIntegerLiteral
where RawValue == UInt64 {
    init(rawValue: UInt64)
}

extension NumericIdentifier {
    @inlinable public init(_ value: UInt64) { self.init(rawValue: value) }
    @inlinable public init(integerLiteral value: UInt64) { self.init(rawValue: value) }
    @inlinable public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    @inlinable public var description: String { String(rawValue) }

    /// As the number itself, which the library hashes at once instead of by a `Hasher`: a third of the work for each
    /// look into a dictionary. The hash is as hard to foresee.
    ///
    /// The underscore notwithstanding, this is a public requirement of `Hashable`, and the only way to that hash; there
    /// since Swift 4.2. A library without it would not compile this, so that nothing can go wrong unseen: then it is to
    /// be deleted, and all that is lost is speed.
    @inlinable public func _rawHashValue(seed: Int) -> Int { rawValue._rawHashValue(seed: seed) }
}

/// A member of the cluster, as group 0 assigned it. Never used twice; 0 stands for "none".
public struct NodeID: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    // Computed, as the other constants here: a stored one is looked up behind a call each time.
    @inlinable public static var none: NodeID { NodeID(rawValue: 0) }
}

/// A Raft group. Group 0 holds the cluster directory; groups from 1 hold workflows.
public struct GroupID: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static var directory: GroupID { GroupID(rawValue: 0) }
    @inlinable public static var firstWorkflows: GroupID { GroupID(rawValue: 1) }
}

/// A Raft term. 0 precedes every election.
public struct Term: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func + (left: Term, right: UInt64) -> Term { Term(left.rawValue + right) }
}

/// A place in a Raft log. The first entry has index 1; 0 stands for "before the log".
public struct LogIndex: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable public static func + (left: LogIndex, right: UInt64) -> LogIndex { LogIndex(left.rawValue + right) }
    /// Precondition: the result is not below 0.
    @inlinable public static func - (left: LogIndex, right: UInt64) -> LogIndex { LogIndex(left.rawValue - right) }
    /// The distance from `right` to `left`. Precondition: `left >= right`.
    @inlinable public static func - (left: LogIndex, right: LogIndex) -> UInt64 { left.rawValue - right.rawValue }
}

/// How often the data directory of a node has been opened: tells the lives of one node apart. From 1.
public struct Incarnation: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// How often the ownership of a run has changed hands. From 1; what an earlier epoch sends is refused.
public struct Epoch: NumericIdentifier {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// One execution of a workflow: the group and the index of the log entry that started it, so that it is
/// unique without being drawn. Its text form is `GROUP-INDEX`, for example `1-4711`.
public struct RunID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let group: GroupID
    public let index: LogIndex

    public init(group: GroupID, index: LogIndex) {
        self.group = group
        self.index = index
    }

    /// Parses the text form; nil when `text` is not one.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let group = UInt64(parts[0]), let index = UInt64(parts[1]) else { return nil }
        self.init(group: GroupID(group), index: LogIndex(index))
    }

    public var description: String { "\(group)-\(index)" }

    public static func < (left: RunID, right: RunID) -> Bool {
        (left.group, left.index) < (right.group, right.index)
    }
}
