import Prelude

/// A call of ours with any number of messages in both directions.
public final class ClientStream: ClientCall {
    /// The bytes are valid during the call only. Messages wait until this is set.
    public var onMessage: ((UnsafeRawBufferPointer) -> Void)? { didSet { deliverLater() } }
    /// The answer's headers have come: `responseMetadata` is there.
    public var onMetadata: (() -> Void)?
    /// Called once, after the last message, with the status and the trailing metadata.
    public var onEnd: ((GRPCStatus, Metadata) -> Void)?
    /// After `send` returned false: there is room again.
    public var onWritable: (() -> Void)?
    /// While true no message is handed over, and the server is held back by the flow-control window.
    public var isReadingPaused = false { didSet { if !isReadingPaused { deliverLater() } } }

    /// Whether messages are compressed from now on, in a call that was begun with `isCompressed`.
    public var isCompressing = true

    /// Sent, framed, and not yet taken by the connection.
    public var queuedByteCount: Int { outbox.byteCount }

    private var heldStatus: GRPCStatus?

    /// Queues a message. False: more is queued than should be, wait for `onWritable`. Ignored after `halfClose` and
    /// after the call's end.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
        guard ending == .open, admit(messageByteCount: bytes.count) else { return false }
        queue(bytes, isCompressed: isCompressing)
        return outboxGrew()
    }

    @discardableResult
    public func send(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard ending == .open, admit(messageByteCount: bytes.count) else { return false }
        queue(bytes, isCompressed: isCompressing)
        return outboxGrew()
    }

    /// No message follows.
    public func halfClose() {
        guard ending == .open, answer != .ended else { return }
        end(with: .endStream)
    }

    override var isTaking: Bool { !isReadingPaused && onMessage != nil && answer != .ended }

    override func take(_ message: UnsafeRawBufferPointer) { onMessage?(message) }

    override func receiveStatus(_ status: GRPCStatus) {
        heldStatus = status
        // Nobody asked for messages: there is nothing to wait for.
        if onMessage == nil { stopReceiving() }
        if reader.bufferedByteCount == 0 { return takeEnd() }
        deliver(UnsafeRawBufferPointer(start: nil, count: 0))
    }

    override func takeEnd() {
        guard let status = heldStatus else { return }
        heldStatus = nil
        conclude(status)
    }

    override var hasStatus: Bool { heldStatus != nil }

    override func answerBegan() { onMetadata?() }

    override func becameWritable() { if answer != .ended { onWritable?() } }

    override func completed(_ status: GRPCStatus) {
        let tell = onEnd
        onMessage = nil
        onMetadata = nil
        onEnd = nil
        onWritable = nil
        tell?(status, responseTrailers)
    }
}
