import CMessages
import Prelude
import Raft

/// A Raft message of one group on its way to another node, with its place when it is a part of a snapshot.
///
/// `message.responses` stays at home: only messages to a node's own storage have any.
public struct PeerMessage: WireMessage {
    public var group: GroupID
    public var message: Raft.Message
    /// From 0. A snapshot that is larger than one message is cut into parts of its data, sent in order.
    public var snapshotPart: UInt32
    /// 0 unless the message carries a part of a snapshot.
    public var snapshotPartCount: UInt32

    public init(group: GroupID, message: Raft.Message, snapshotPart: UInt32 = 0, snapshotPartCount: UInt32 = 0) {
        self.group = group
        self.message = message
        self.snapshotPart = snapshotPart
        self.snapshotPartCount = snapshotPartCount
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension PeerMessage: FieldTable {
    typealias Raw = Raftoral__Peer__PeerMessage

    static var blank: Self { PeerMessage(group: .directory, message: Message(kind: .hup)) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("group_id", &value.group, &raw.group_id)
        try visitor.code("kind", &value.message.kind, &raw.kind)
        try visitor.identifier("to", &value.message.to, &raw.to)
        try visitor.identifier("from", &value.message.from, &raw.from)
        try visitor.identifier("term", &value.message.term, &raw.term)
        try visitor.identifier("log_term", &value.message.logTerm, &raw.log_term)
        try visitor.identifier("index", &value.message.index, &raw.index)
        try visitor.messages(&value.message.entries, &raw.entries, &raw.n_entries)
        try visitor.identifier("commit", &value.message.commit, &raw.commit)
        try visitor.identifier("vote", &value.message.vote, &raw.vote)
        try visitor.message(&value.message.snapshot, &raw.snapshot)
        visitor.flag(&value.message.reject, &raw.reject)
        try visitor.identifier("reject_hint", &value.message.rejectHint, &raw.reject_hint)
        visitor.bytes(&value.message.context, &raw.context)
        visitor.number(&value.snapshotPart, &raw.snapshot_part)
        visitor.number(&value.snapshotPartCount, &raw.snapshot_part_count)
    }
}

extension Entry: FieldTable {
    typealias Raw = Raftoral__Peer__Entry

    static var blank: Self { Entry(term: 0, index: 0, kind: .normal, data: []) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("term", &value.term, &raw.term)
        try visitor.identifier("index", &value.index, &raw.index)
        try visitor.code("kind", &value.kind, &raw.kind)
        visitor.bytes(&value.data, &raw.data)
    }
}

extension Snapshot: FieldTable {
    typealias Raw = Raftoral__Peer__Snapshot

    static var blank: Self { Snapshot(metadata: .blank, data: []) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.messageOrBlank(&value.metadata, &raw.metadata)
        visitor.bytes(&value.data, &raw.data)
    }
}

extension SnapshotMetadata: FieldTable {
    typealias Raw = Raftoral__Peer__SnapshotMetadata

    static var blank: Self { SnapshotMetadata(index: 0, term: 0, confState: .blank) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("index", &value.index, &raw.index)
        try visitor.identifier("term", &value.term, &raw.term)
        try visitor.messageOrBlank(&value.confState, &raw.conf_state)
    }
}

extension ConfState: FieldTable {
    typealias Raw = Raftoral__Peer__ConfState

    static var blank: Self { ConfState() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifiers("voters", &value.voters, &raw.voters, &raw.n_voters)
        try visitor.identifiers("learners", &value.learners, &raw.learners, &raw.n_learners)
        try visitor.identifiers(
            "voters_outgoing", &value.votersOutgoing, &raw.voters_outgoing, &raw.n_voters_outgoing)
        try visitor.identifiers("learners_next", &value.learnersNext, &raw.learners_next, &raw.n_learners_next)
        visitor.flag(&value.autoLeave, &raw.auto_leave)
    }
}
