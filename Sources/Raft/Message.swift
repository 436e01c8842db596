import Prelude

/// Raw values go over the wire: they never change.
public enum MessageKind: UInt8, Sendable, CaseIterable {
    case hup = 0
    case beat = 1
    case propose = 2
    case append = 3
    case appendResponse = 4
    case vote = 5
    case voteResponse = 6
    case snapshot = 7
    case heartbeat = 8
    case heartbeatResponse = 9
    case unreachable = 10
    case snapshotStatus = 11
    case checkQuorum = 12
    case transferLeader = 13
    case timeoutNow = 14
    case readIndex = 15
    case readIndexResponse = 16
    case preVote = 17
    case preVoteResponse = 18
    case storageAppend = 19
    case storageAppendResponse = 20
    case storageApply = 21
    case storageApplyResponse = 22
    case forgetLeader = 23

    /// Never comes from another node.
    public var isLocal: Bool {
        switch self {
        case .hup, .beat, .unreachable, .snapshotStatus, .checkQuorum, .storageAppend, .storageAppendResponse,
            .storageApply, .storageApplyResponse:
            return true
        case .propose, .append, .appendResponse, .vote, .voteResponse, .snapshot, .heartbeat, .heartbeatResponse,
            .transferLeader, .timeoutNow, .readIndex, .readIndexResponse, .preVote, .preVoteResponse, .forgetLeader:
            return false
        }
    }

    /// Answers something, and so means nothing from a node outside the configuration.
    var isResponse: Bool {
        switch self {
        case .appendResponse, .voteResponse, .heartbeatResponse, .unreachable, .readIndexResponse, .preVoteResponse,
            .storageAppendResponse, .storageApplyResponse:
            return true
        case .hup, .beat, .propose, .append, .vote, .snapshot, .heartbeat, .snapshotStatus, .checkQuorum,
            .transferLeader, .timeoutNow, .readIndex, .preVote, .storageAppend, .storageApply, .forgetLeader:
            return false
        }
    }
}

extension NodeID {
    /// Writes entries, hard state and snapshots in order, then delivers the responses of each message.
    @inlinable public static var localAppendThread: NodeID { NodeID(rawValue: .max) }
    /// Applies committed entries in order, then delivers the responses of each message.
    @inlinable public static var localApplyThread: NodeID { NodeID(rawValue: .max - 1) }

    public var isLocalThread: Bool { self == .localAppendThread || self == .localApplyThread }
}

/// Everything that a core says and hears. Which fields have a meaning depends on the kind; the others are 0 or empty.
public struct Message: Equatable, Sendable {
    public var kind: MessageKind
    public var reject: Bool
    /// There is a response to what is to be applied, which says the same again: it is made for who asks.
    private var hasAppliedResponse: Bool
    public var to: NodeID
    public var from: NodeID
    /// The sender's term; 0 for what has none: proposals, reads and most local messages.
    public var term: Term
    /// The term of the entry at `index`.
    public var logTerm: Term
    /// Append: the entry before `entries`. Append response: the last entry that matches or, when rejected, the one
    /// that does not. Vote: the candidate's last entry. Read: the index to wait for.
    public var index: LogIndex
    public var commit: LogIndex
    /// Storage append only: the vote of the hard state.
    public var vote: NodeID
    /// Rejected append: the sender's guess of the last entry that may match, of term `logTerm`.
    public var rejectHint: LogIndex
    public var entries: [Entry]
    // Few messages carry these, and every message is moved and destroyed often: nil is cheaper than empty, and a box than
    // what is in it. Never empty, so that equal messages are equal. Spelled out, because `?` would set them to nil first,
    // and with that have the initializers below copy what they have made.
    private var storedResponses: Optional<[Message]>
    private var rareFields: Optional<RareFields>

    /// Storage messages only: to be delivered when the work is done.
    public var responses: [Message] {
        get {
            if let storedResponses { return storedResponses }
            if !hasAppliedResponse { return [] }
            return [Message(kind: .storageApplyResponse, to: from, from: .localApplyThread, entries: entries)]
        }
        set {
            storedResponses = newValue.isEmpty ? nil : newValue
            hasAppliedResponse = false
        }
    }

    /// As `responses`, which are gone afterwards: who has them alone can move them on.
    public mutating func takeResponses() -> [Message] {
        let taken = responses
        responses = []
        return taken
    }

    /// Vote: that a leader asked for it, or else, as in a rejected vote, index and term of the last committed entry.
    /// Heartbeat: the last pending read, echoed. Read: the reader's name for it.
    public var context: [UInt8] {
        get { rareFields?.context ?? [] }
        set { rareFields = .unlessEmpty(newValue, boxedSnapshot) }
    }

    public var snapshot: Snapshot? {
        get { boxedSnapshot?.value }
        set { rareFields = .unlessEmpty(context, newValue.map(SnapshotBox.init)) }
    }

    var boxedSnapshot: SnapshotBox? { rareFields?.snapshot }

    // Sets every field by itself, because an initializer that hands on to another copies the whole message.
    public init(
        kind: MessageKind, to: NodeID = .none, from: NodeID = .none, term: Term = 0, logTerm: Term = 0,
        index: LogIndex = 0, entries: [Entry] = [], commit: LogIndex = 0, vote: NodeID = .none,
        reject: Bool = false, rejectHint: LogIndex = 0
    ) {
        self.kind = kind
        self.to = to
        self.from = from
        self.term = term
        self.logTerm = logTerm
        self.index = index
        self.entries = entries
        self.commit = commit
        self.vote = vote
        self.reject = reject
        self.rejectHint = rejectHint
        hasAppliedResponse = false
        storedResponses = nil
        rareFields = nil
    }

    /// As above, with what most messages are made without.
    public init(
        kind: MessageKind, to: NodeID = .none, from: NodeID = .none, term: Term = 0, logTerm: Term = 0,
        index: LogIndex = 0, entries: [Entry] = [], commit: LogIndex = 0, vote: NodeID = .none,
        snapshot: Snapshot? = nil, reject: Bool = false, rejectHint: LogIndex = 0, context: [UInt8],
        responses: [Message] = []
    ) {
        self.init(
            kind: kind, to: to, from: from, term: term, logTerm: logTerm, index: index, entries: entries,
            commit: commit, vote: vote, reject: reject, rejectHint: rejectHint)
        self.responses = responses
        rareFields = .unlessEmpty(context, snapshot.map(SnapshotBox.init))
    }

    public init(
        kind: MessageKind, to: NodeID = .none, from: NodeID = .none, term: Term = 0, logTerm: Term = 0,
        index: LogIndex = 0, entries: [Entry] = [], commit: LogIndex = 0, vote: NodeID = .none,
        snapshot: Snapshot?, reject: Bool = false, rejectHint: LogIndex = 0, responses: [Message] = []
    ) {
        self.init(
            kind: kind, to: to, from: from, term: term, logTerm: logTerm, index: index, entries: entries,
            commit: commit, vote: vote, snapshot: snapshot, reject: reject, rejectHint: rejectHint, context: [],
            responses: responses)
    }

    /// For the storage of `from`: what is to be written, or committed entries to be applied.
    init(
        _ work: MessageKind, _ entries: [Entry], _ hardState: HardState, _ snapshot: SnapshotBox?, from: NodeID,
        responses: [Message]?
    ) {
        kind = work
        reject = false
        hasAppliedResponse = work == .storageApply
        to = work == .storageApply ? .localApplyThread : .localAppendThread
        self.from = from
        term = hardState.term
        logTerm = 0
        index = 0
        self.entries = entries
        commit = hardState.commit
        vote = hardState.vote
        rejectHint = 0
        storedResponses = responses
        rareFields = .unlessEmpty([], snapshot)
    }

    func with(_ snapshot: SnapshotBox) -> Message {
        var message = self
        message.rareFields = .unlessEmpty(context, snapshot)
        return message
    }

    /// The hard state that a storage append message carries; empty when it carries none.
    public var hardState: HardState { HardState(term: term, vote: vote, commit: commit) }
}

/// What only a few kinds of messages carry.
private final class RareFields: Sendable, Equatable {
    let context: [UInt8]
    let snapshot: SnapshotBox?

    init(_ context: [UInt8], _ snapshot: SnapshotBox?) {
        self.context = context
        self.snapshot = snapshot
    }

    static func unlessEmpty(_ context: [UInt8], _ snapshot: SnapshotBox?) -> RareFields? {
        context.isEmpty && snapshot == nil ? nil : RareFields(context, snapshot)
    }

    static func == (left: RareFields, right: RareFields) -> Bool {
        left === right || left.context == right.context && left.snapshot == right.snapshot
    }
}

final class SnapshotBox: Sendable, Equatable {
    let value: Snapshot

    init(_ value: Snapshot) { self.value = value }

    static func == (left: SnapshotBox, right: SnapshotBox) -> Bool { left === right || left.value == right.value }
}
