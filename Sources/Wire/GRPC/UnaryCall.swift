import Prelude

/// A call with one request and one answer. Exactly one answer is sent; what comes later is ignored.
public final class UnaryCall: ServerCall {
    private enum Request {
        case incomplete
        /// In the bytes that the connection reads right now.
        case held(UnsafeRawBufferPointer)
        case assembled(ArraySlice<UInt8>)
        /// At the front of `reader`.
        case compressed
        case taken
    }

    private var request = Request.incomplete

    public func respond(_ bytes: [UInt8]) {
        guard answer == .nothing, admit(messageByteCount: bytes.count), begin() else { return }
        queue(bytes)
        conclude(.ok)
    }

    public func respond(_ bytes: UnsafeRawBufferPointer) {
        guard answer == .nothing, admit(messageByteCount: bytes.count), begin() else { return }
        queue(bytes)
        conclude(.ok)
    }

    /// Precondition: `status` is not OK, because that needs an answer.
    public func fail(_ status: GRPCStatus) {
        invariant(!status.isOK, "a unary call succeeds by its answer")
        conclude(status)
    }

    // MARK: The request

    override func receive(_ chunk: UnsafeRawBufferPointer) {
        let failure = read(chunk)
        let hasRoom = settle(received: chunk.count, isPaused: false)
        if let failure { return conclude(failure) }
        if !hasRoom { failOverloaded() }
    }

    /// Reads messages as far as `chunk` goes; returns what is wrong with them.
    private func read(_ chunk: UnsafeRawBufferPointer) -> GRPCStatus? {
        var rest = chunk
        if case .compressed = request { return chunk.isEmpty ? nil : Self.cardinality }
        repeat {
            switch reader.next(&rest) {
            case .needMore: return nil
            case .failed(let failure): return status(for: failure)
            case .inChunk(let message):
                guard case .incomplete = request else { return Self.cardinality }
                _ = withConnection { $0.hold(self) }
                request = .held(message)
            case .assembled(let message):
                guard case .incomplete = request else { return Self.cardinality }
                request = .assembled(message)
            case .compressed:
                guard case .incomplete = request, rest.isEmpty else { return Self.cardinality }
                request = .compressed
            }
        } while !rest.isEmpty
        return nil
    }

    private static let cardinality = GRPCStatus(
        .unimplemented, "the request of a unary call has more than one message")

    override func keepHeldMessage() {
        if case .held(let message) = request { request = .assembled(Array(message)[...]) }
    }

    override func receiveEnd() {
        guard answer == .nothing, case .unary(let handler) = route.kind else { return }
        let request = request
        self.request = .taken
        switch request {
        case .compressed: inflate()
        case _ where reader.bufferedByteCount > 0:
            conclude(GRPCStatus(.internalError, "the request ends within a message"))
        case .incomplete: conclude(GRPCStatus(.unimplemented, "the request of a unary call has no message"))
        case .held(let message): handler(self, message)
        case .assembled(let message): message.withUnsafeBytes { handler(self, $0) }
        case .taken: break
        }
    }

    override func takeInflated(_ message: [UInt8]) {
        reader.dropCompressedMessage()
        _ = settle(received: 0, isPaused: false)
        isRequestCompressed = true
        guard answer == .nothing, case .unary(let handler) = route.kind else { return }
        message.withUnsafeBytes { handler(self, $0) }
    }

    override func refuse(_ failure: MessageReader.Failure) { conclude(status(for: failure)) }

    override func continueAfterInflation() {}
}
