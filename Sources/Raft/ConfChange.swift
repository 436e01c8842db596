import Prelude

public struct ConfChangeSingle: Equatable, Sendable {
    /// Raw values are stored: they never change.
    public enum Kind: UInt8, Sendable {
        case addVoter = 0
        case remove = 1
        /// Changes nothing in the configuration; carries the `context` of its `ConfChange` through the log.
        case update = 2
        case addLearner = 3
    }

    public var kind: Kind
    public var node: NodeID

    public init(kind: Kind, node: NodeID) {
        self.kind = kind
        self.node = node
    }
}

/// A change of the configuration, as an entry of kind `confChange` or `confChangeV2` carries it. Without changes
/// and with the automatic transition it leaves a joint configuration.
public struct ConfChange: Equatable, Sendable {
    /// Raw values are stored: they never change.
    public enum Transition: UInt8, Sendable {
        /// One change takes the simple way (Raft dissertation §4.1), several the joint one, left automatically.
        case auto = 0
        /// Joint (Raft §6), left automatically.
        case jointImplicit = 1
        /// Joint, left by an empty `ConfChange` that the application proposes.
        case jointExplicit = 2
    }

    public var transition: Transition
    public var changes: [ConfChangeSingle]
    /// The application's; Raft does not look at it.
    public var context: [UInt8]

    public init(transition: Transition = .auto, changes: [ConfChangeSingle] = [], context: [UInt8] = []) {
        self.transition = transition
        self.changes = changes
        self.context = context
    }

    enum Course: Equatable {
        case simple
        case enterJoint(autoLeave: Bool)
        case leaveJoint
    }

    var course: Course {
        switch (transition, changes.count) {
        case (.auto, 0): .leaveJoint
        case (.auto, 1): .simple
        case (.auto, _), (.jointImplicit, _): .enterJoint(autoLeave: true)
        case (.jointExplicit, _): .enterJoint(autoLeave: false)
        }
    }
}

// The stored form is that of a protobuf message: tag 1 the transition, tag 2 each change (1 kind, 2 node), tag 3 the
// context unless empty. No bytes at all decode as the empty change.
extension ConfChange {
    private enum Tag {
        static let transition: UInt8 = 0x08
        static let change: UInt8 = 0x12
        static let context: UInt8 = 0x1A
        static let changeKind: UInt8 = 0x08
        static let changeNode: UInt8 = 0x10
    }

    public func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 8 + 16 * changes.count + context.count)
        writer.append(Tag.transition)
        writer.append(varint: UInt64(transition.rawValue))
        for change in changes {
            var inner = ByteWriter(capacity: 16)
            inner.append(Tag.changeKind)
            inner.append(varint: UInt64(change.kind.rawValue))
            inner.append(Tag.changeNode)
            inner.append(varint: change.node.rawValue)
            writer.append(Tag.change)
            writer.append(string: inner.bytes)
        }
        if !context.isEmpty {
            writer.append(Tag.context)
            writer.append(string: context)
        }
        return writer.bytes
    }

    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        self.init()
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            let start = reader.offset
            switch try reader.byte() {
            case Tag.transition:
                guard let transition = Transition(rawValue: UInt8(clamping: try reader.varint())) else {
                    throw MalformedBytes(offset: start, expected: "a transition")
                }
                self.transition = transition
            case Tag.change:
                changes.append(try ConfChange.decodeChange(try reader.string(), at: start))
            case Tag.context:
                context = try reader.string()
            default:
                throw MalformedBytes(offset: start, expected: "a field of a configuration change")
            }
        }
    }

    private static func decodeChange(_ bytes: [UInt8], at start: Int) throws(MalformedBytes) -> ConfChangeSingle {
        var reader = ByteReader(bytes)
        guard try reader.byte() == Tag.changeKind,
            let kind = ConfChangeSingle.Kind(rawValue: UInt8(clamping: try reader.varint())),
            try reader.byte() == Tag.changeNode
        else { throw MalformedBytes(offset: start, expected: "a change of one node") }
        let node = NodeID(try reader.varint())
        try reader.end()
        return ConfChangeSingle(kind: kind, node: node)
    }
}
