import Prelude

/// A call with any number of messages in both directions.
///
/// The handler sets its callbacks when it gets the call. Messages, and the half-close after them, wait until `onMessage`
/// is set.
public final class ServerStream: ServerCall {
    /// The bytes are valid during the call only.
    public var onMessage: ((UnsafeRawBufferPointer) -> Void)? { didSet { deliverLater() } }
    /// The caller has sent its last message.
    public var onHalfClose: (() -> Void)?
    /// After `send` returned false: there is room again.
    public var onWritable: (() -> Void)?
    /// While true no message is handed over, and the caller is held back by the flow-control window.
    public var isReadingPaused = false { didSet { if !isReadingPaused { deliverLater() } } }

    /// The stream is gone, whoever ended it and why. Called once, last.
    public var onEnd: (() -> Void)?

    private var isHalfClosed = false

    /// Sends the metadata before the first message is there.
    public func sendMetadata() { _ = begin() }

    /// Queues a message. False: more is queued than should be, wait for `onWritable`. After the end of the call it
    /// is ignored.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
        guard answer != .ended, admit(messageByteCount: bytes.count), begin() else { return false }
        queue(bytes)
        return outboxGrew()
    }

    @discardableResult
    public func send(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard answer != .ended, admit(messageByteCount: bytes.count), begin() else { return false }
        queue(bytes)
        return outboxGrew()
    }

    /// Ends the call after the queued messages. Nothing is received any more.
    public func finish(_ status: GRPCStatus = .ok) { conclude(status) }

    // MARK: Receiving

    override var isTaking: Bool { !isReadingPaused && onMessage != nil && answer != .ended }

    override func receive(_ chunk: UnsafeRawBufferPointer) { deliver(chunk) }

    override func receiveEnd() { deliver(UnsafeRawBufferPointer(start: nil, count: 0)) }

    override func take(_ message: UnsafeRawBufferPointer) {
        onMessage?(message)
        isRequestCompressed = false
    }

    override func takeInflated(_ message: [UInt8]) {
        isRequestCompressed = true
        super.takeInflated(message)
    }

    override func refuse(_ failure: MessageReader.Failure) { conclude(status(for: failure)) }

    override func refuseForLackOfRoom() { failOverloaded() }

    override func takeEnd() {
        guard !isHalfClosed, answer != .ended else { return }
        isHalfClosed = true
        if reader.bufferedByteCount > 0 {
            conclude(GRPCStatus(.internalError, "the request ends within a message"))
        } else {
            onHalfClose?()
        }
    }

    override func becameWritable() { if answer != .ended { onWritable?() } }

    override func finished() {
        onMessage = nil
        onHalfClose = nil
        onWritable = nil
        let tell = onEnd
        onEnd = nil
        tell?()
    }
}
