import Prelude

/// What a core wants done.
///
/// Without asynchronous storage writes: make `entries`, `hardState` and `snapshot` durable, then send `messages`, apply
/// `snapshot` and `committedEntries`, and call `RawNode.advance`. With them: do what the messages to
/// `NodeID.localAppendThread` and `.localApplyThread` say, each kind in order, and deliver their responses afterwards;
/// everything else may be sent at once, and the other fields are for information.
public struct Ready: Sendable {
    /// Only when it has changed.
    public var softState: SoftState?
    /// Only when it has changed.
    public var hardState: HardState?
    public var readStates: [ReadState] = []
    /// To be made durable.
    public var entries: [Entry] = []
    /// To be made durable and applied.
    public var snapshot: Snapshot? { boxedSnapshot?.value }
    var boxedSnapshot: SnapshotBox?
    /// To be applied.
    public var committedEntries: [Entry] = []
    public var messages: [Message] = []
    /// Whether it has to be durable before messages are sent: entries, or a new term or vote. A new commit index alone
    /// may be lost.
    public var mustSync = false

    public init() {}
}
