import CoreMetrics
import Raftoral
import XCTest

/// A program that counts by swift-metrics and embeds a node with an admin address.
final class ObservabilityTests: LoopTestCase {
    func testTheProgramsOwnMetricsStandBesideThoseOfTheNode() throws {
        let nodes = TestNodes(loop: loop)
        let loop = loop
        let metrics = MetricsRegistry()
        // Not by MetricsSystem.bootstrap, which only works once in a process.
        let backend = SwiftMetricsBackend(metrics)
        let calls = backend.makeCounter(label: "my-app.calls", dimensions: [("kind", "a")])
        calls.increment(by: 3)
        backend.makeTimer(label: "work", dimensions: []).recordNanoseconds(2_000_000)
        backend.makeMeter(label: "depth", dimensions: []).set(Int64(7))
        backend.makeRecorder(label: "size", dimensions: [], aggregate: true).record(Int64(15))
        backend.makeRecorder(label: "last", dimensions: [], aggregate: false).record(2.5)
        backend.makeFloatingPointCounter(label: "spent", dimensions: []).increment(by: 0.5)
        try onLoop {
            var configuration = NodeConfiguration(address: .anyPort, dataDirectory: "/data", bootstrap: true)
            configuration.metrics = metrics
            let node = try await nodes.start(configuration, adminAddress: .anyPort)
            let admin = try XCTUnwrap(node.adminAddress)
            let answer = try await loop.get("/metrics", at: admin)
            for line in [
                "my_app_calls_total{kind=\"a\"} 3", "work_seconds_bucket{le=\"0.0025\"} 1", "work_seconds_sum 0.002",
                "depth 7", "size_bucket{le=\"20\"} 1", "last 2.5", "spent_total 0.5",
                "raftoral_raft_has_leader{group=\"1\"} 1",
            ] {
                XCTAssertTrue(answer.contains("\n\(line)\n"), "no \(line) in \(answer)")
            }
            let state = try await loop.get("/debug/state", at: admin)
            XCTAssertTrue(state.contains("\"clusterID\" : \"\(node.clusterID)\""), state)
            await node.shutdown()
            let afterwards = try? await loop.get("/livez", at: admin)
            XCTAssertNil(afterwards)
        }
    }
}

extension EventLoop {
    /// The whole answer to a GET, with its head.
    fileprivate func get(_ path: String, at address: HostPort) async throws -> String {
        let result = await withCheckedContinuation { continuation in
            network.connect(to: address, timeout: .seconds(60)) { result in
                switch result {
                case .failure(let error): continuation.resume(returning: Result<String, NetworkError>.failure(error))
                case .success(let connection):
                    connection.handler = Download { continuation.resume(returning: .success($0)) }
                    let request = "GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    Array(request.utf8).withUnsafeBytes { connection.write($0) }
                }
            }
        }
        return try result.get()
    }
}

private final class Download: ConnectionHandler {
    private var bytes: [UInt8] = []
    private let completion: (String) -> Void

    init(completion: @escaping (String) -> Void) { self.completion = completion }

    func connectionDidRead(_ bytes: UnsafeRawBufferPointer) { self.bytes.append(contentsOf: bytes) }
    func connectionDidDrain() {}
    func connectionDidClose(_ reason: NetworkError) { completion(String(decoding: bytes, as: UTF8.self)) }
}
