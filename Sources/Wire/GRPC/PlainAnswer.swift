import CNGHTTP2

/// The answer to a request that is not gRPC: an HTTP status and a line of text.
final class PlainAnswer: HTTP2Stream {
    enum Kind { case notFound, methodNotAllowed, unsupportedMediaType }

    private static let notFound = StaticHeaderFields([(":status", "404"), ("content-type", "text/plain")])
    private static let methodNotAllowed = StaticHeaderFields([
        (":status", "405"), ("allow", "POST"), ("content-type", "text/plain"),
    ])
    private static let unsupportedMediaType = StaticHeaderFields([
        (":status", "415"), ("accept", "application/grpc"), ("content-type", "text/plain"),
    ])

    func submit(_ kind: Kind) {
        guard let connection else { return }
        let fields: StaticHeaderFields
        switch kind {
        case .notFound:
            fields = Self.notFound
            outbox.append(text: "Not found. This server speaks gRPC over HTTP/2.\n")
        case .methodNotAllowed:
            fields = Self.methodNotAllowed
            outbox.append(text: "gRPC calls use the method POST.\n")
        case .unsupportedMediaType:
            fields = Self.unsupportedMediaType
            outbox.append(text: "gRPC calls have the content type application/grpc.\n")
        }
        var provider = dataProvider()
        nghttp2_submit_response(connection.session, streamID, fields.start, fields.count, &provider)
        end(with: .endStream)
        if !isPeerDone { connection.resetWhenAnswered(streamID) }
        stopReceiving()
    }

    override var isAnswered: Bool { true }

    override func receive(_ chunk: UnsafeRawBufferPointer) {
        _ = settle(received: chunk.count, isPaused: false)
    }
}
