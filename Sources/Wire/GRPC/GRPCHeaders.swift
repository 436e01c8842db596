import CNGHTTP2

/// The header blocks that gRPC puts around messages.
enum GRPCHeaders {
    static let response = StaticHeaderFields([
        (":status", "200"), ("content-type", "application/grpc"), ("grpc-accept-encoding", MessageEncoding.accepted),
    ])
    static let gzip = StaticHeaderFields([("grpc-encoding", MessageEncoding.gzipName)])
    static let request = StaticHeaderFields([
        ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "raftoral"),
        ("grpc-accept-encoding", MessageEncoding.accepted),
    ])
    /// What begins with a colon comes first (RFC 9113 §8.3).
    static let requestPseudo = StaticHeaderFields([(":method", "POST"), (":scheme", "http")])
    private static let ok = StaticHeaderFields([("grpc-status", "0")])

    static func submitTrailers(
        _ status: GRPCStatus, _ trailers: Metadata, to connection: HTTP2Connection, _ streamID: Int32, isPeerDone: Bool
    ) {
        if status == .ok, trailers.isEmpty {
            nghttp2_submit_trailer(connection.session, streamID, ok.start, ok.count)
        } else {
            var fields = HeaderFields()
            add(status, to: &fields)
            fields.add(trailers)
            fields.withFields { _ = nghttp2_submit_trailer(connection.session, streamID, $0, $1) }
        }
        if !isPeerDone { connection.resetWhenAnswered(streamID) }
    }

    /// A status without messages: one header block that is also the last.
    static func submitTrailersOnly(
        _ status: GRPCStatus, _ metadata: Metadata, _ trailers: Metadata, to connection: HTTP2Connection,
        _ streamID: Int32, isPeerDone: Bool
    ) {
        var fields = HeaderFields()
        fields.add(response)
        fields.add(metadata)
        add(status, to: &fields)
        fields.add(trailers)
        fields.withFields { _ = nghttp2_submit_response(connection.session, streamID, $0, $1, nil) }
        if !isPeerDone { connection.resetWhenAnswered(streamID) }
        connection.flushLater()
    }

    private static func add(_ status: GRPCStatus, to fields: inout HeaderFields) {
        fields.add("grpc-status", String(status.code.rawValue).utf8)
        guard !status.message.isEmpty else { return }
        fields.add(
            "grpc-message",
            PercentEncoding.encode(status.message, byteCountMax: GRPCStatus.messageByteCountMax), .never)
    }
}
