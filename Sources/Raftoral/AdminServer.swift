import FoundationEssentials
import Node
import Prelude
import Reactor
import Telemetry
import Wire

/// What operators and their tools ask a node over HTTP/1.1: metrics, health, version, state. Confined to its loop.
///
/// It can listen before there is a node, so that whoever watches the process sees that it starts. It asks for no
/// credentials: bind it to an address that only operators reach.
public final class AdminServer {
    /// Where it listens; the port is the one that was taken when 0 was asked for.
    public var address: HostPort { listener.address }
    /// Nil while it starts.
    public var node: Node?

    private let loop: EventLoop
    private let pages: Pages
    private let listener: AdminListener

    /// Holds the answers, so that the listener need not hold the server.
    private final class Pages {
        weak var server: AdminServer?
    }

    public init(on loop: EventLoop, address: HostPort, limits: AdminLimits = AdminLimits()) throws(NetworkError) {
        let pages = Pages()
        self.loop = loop
        self.pages = pages
        listener = try AdminListener(loop: loop, address: address, limits: limits) { path in
            pages.server?.answer(path) ?? AdminListener.Answer(status: 503, body: "closed\n")
        }
        pages.server = self
    }

    public func close() { listener.close() }

    private func answer(_ path: String) -> AdminListener.Answer {
        switch path {
        case "/metrics": return metrics
        case "/livez": return AdminListener.Answer(body: "ok\n")
        case "/readyz": return readiness
        case "/version": return json(VersionPage(version: Version.text, nodeID: node?.id.rawValue))
        case "/debug/state": return node.map { json(StatePage($0)) } ?? starting
        case "/":
            return AdminListener.Answer(body: "/metrics\n/livez\n/readyz\n/version\n/debug/state\n")
        default: return AdminListener.Answer(status: 404, body: "There is no such page; / lists those that are.\n")
        }
    }

    private var starting: AdminListener.Answer { AdminListener.Answer(status: 503, body: "the node is starting\n") }

    private var readiness: AdminListener.Answer {
        guard let node else { return starting }
        let reasons = node.unreadyReasons
        guard !reasons.isEmpty else { return AdminListener.Answer(body: "ok\n") }
        return AdminListener.Answer(status: 503, body: reasons.map { $0 + "\n" }.joined())
    }

    private var metrics: AdminListener.Answer {
        var exposition = Exposition()
        node?.collect(into: &exposition)
        loop.collect(into: &exposition)
        ProcessMetrics.collect(into: &exposition)
        exposition.counter("raftoral_admin_requests_total", "Requests to this listener.", listener.requestCount)
        return AdminListener.Answer(contentType: Exposition.contentType, bytes: Array(exposition.text.utf8))
    }

    private func json(_ page: some Encodable) -> AdminListener.Answer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            let data = try encoder.encode(page)
            return AdminListener.Answer(contentType: "application/json", bytes: Array(data) + [UInt8(ascii: "\n")])
        } catch {
            return AdminListener.Answer(status: 500, body: "\(error)\n")
        }
    }
}

private struct VersionPage: Encodable {
    var version: String
    var nodeID: UInt64?
}

/// The node's own view, as `ClusterService/Status` tells it, and what keeps it from being ready.
private struct StatePage: Encodable {
    private let view: ClusterView
    private let unreadyReasons: [String]

    private enum Keys: CodingKey { case isReady, unreadyReasons }

    init(_ node: Node) {
        view = ClusterView(node.status)
        unreadyReasons = node.unreadyReasons
    }

    func encode(to encoder: any Encoder) throws {
        try view.encode(to: encoder)
        var more = encoder.container(keyedBy: Keys.self)
        try more.encode(unreadyReasons.isEmpty, forKey: .isReady)
        try more.encode(unreadyReasons, forKey: .unreadyReasons)
    }
}
