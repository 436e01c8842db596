import Foundation
import Raftoral
import XCTest

/// TLS connections over loopback, one layer above sockets. What clients of other makes see is in Tests/Python/test_security.py.
final class TLSTests: LoopTestCase {
    private static let folder: Result<String, any Error> = Result {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "raftoral-certs-\(UUID().uuidString)"
        ).path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("scripts/certs.sh")
        process.arguments = [folder]
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return folder
    }

    override func setUpWithError() throws {
        // Starting the first process opens descriptors that stay.
        _ = try Self.folder.get()
        try super.setUpWithError()
    }

    private func file(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: try Self.folder.get() + "/" + name)))
    }

    private func network(
        _ limits: WireLimits = WireLimits(), over inner: (any Network)? = nil
    ) throws -> TLSNetwork {
        let server = TLSCredentials(
            certificates: try file("node.pem"), privateKey: try file("node.key"), trusted: try file("ca.pem"))
        let settings = TLSSettings(server: server, client: TLSCredentials(trusted: try file("ca.pem")))
        return try TLSNetwork(over: inner ?? loop.network, clock: loop.clock, limits: limits, settings: settings)
    }

    private final class Peer: ConnectionHandler {
        var received: [UInt8] = []
        var end: NetworkError?
        func connectionDidRead(_ bytes: UnsafeRawBufferPointer) { received.append(contentsOf: bytes) }
        func connectionDidDrain() {}
        func connectionDidClose(_ reason: NetworkError) { end = reason }
    }

    /// Both ends of one connection.
    private func connected(
        _ network: TLSNetwork
    ) throws -> (server: any Connection, serverSide: Peer, client: any Connection, clientSide: Peer) {
        let serverSide = Peer()
        let clientSide = Peer()
        var server: (any Connection)?
        var client: Result<any Connection, NetworkError>?
        let listener = try network.listen(on: .anyPort) { connection in
            server = connection
            connection.handler = serverSide
        }
        defer { listener.close() }
        network.connect(to: listener.address, timeout: .seconds(60)) { client = $0 }
        wait("both are connected", within: .seconds(60)) { server != nil && client != nil }
        let opened = try XCTUnwrap(client).get()
        opened.handler = clientSide
        return (try XCTUnwrap(server), serverSide, opened, clientSide)
    }

    func testEverythingArrivesAndThenTheEnd() throws {
        let (server, serverSide, client, clientSide) = try connected(try network())
        var random = SeededRandom(seed: 1)
        let bytes = (0..<3_000_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for start in stride(from: 0, to: bytes.count, by: 70_001) {
            bytes[start..<min(bytes.count, start + 70_001)].withUnsafeBytes { client.write($0) }
        }
        client.closeAfterFlush()
        wait("all has arrived", within: .seconds(60)) { serverSide.end != nil }
        XCTAssertEqual(serverSide.received.count, bytes.count)
        XCTAssertTrue(serverSide.received == bytes)
        server.close()
        wait("both are told once", within: .seconds(60)) { clientSide.end != nil }
    }

    func testPausedReadingHoldsBackWhatIsDecryptedAlready() throws {
        let (server, serverSide, client, _) = try connected(try network())
        server.isReadingPaused = true
        [UInt8](repeating: 7, count: 40_000).withUnsafeBytes { client.write($0) }
        var isOver = false
        _ = loop.clock.schedule(after: .milliseconds(100)) { isOver = true }
        wait("a while", within: .seconds(60)) { isOver }
        XCTAssertEqual(serverSide.received.count, 0)
        server.isReadingPaused = false
        wait("it arrives", within: .seconds(60)) { serverSide.received.count == 40_000 }
        server.close()
        client.close()
        wait("closed", within: .seconds(60)) { serverSide.end != nil }
    }

    func testHandshakesUnderWayAreBoundedInNumberAndTime() throws {
        var limits = WireLimits()
        limits.handshakeCountMax = 1
        limits.handshakeTimeoutMilliseconds = 200
        let network = try network(limits)
        var refused: [String] = []
        network.onRefused = { refused.append($1) }
        let listener = try network.listen(on: .anyPort) { $0.close() }
        defer { listener.close() }
        let ends = [Peer(), Peer()]
        for end in ends {
            loop.network.connect(to: listener.address, timeout: .seconds(60)) { result in
                if case .success(let connection) = result { connection.handler = end }
            }
        }
        // The first at once, because there is another; that one in its time.
        wait("both are closed", within: .seconds(60)) { ends.allSatisfy { $0.end != nil } }
        XCTAssertEqual(
            refused, ["TLS: too many handshakes are under way", "TLS: the handshake was not over in time"])
    }

    /// The certificate names the name, and none of the addresses.
    func testEveryAddressOfANameIsHeldToTheName() throws {
        let plain = NamedNetwork(over: loop.network)
        let network = try network(over: plain)
        let listeners = try [2, 3].map {
            try network.listen(on: HostPort(host: "127.0.0.\($0)", port: 0)) { $0.close() }
        }
        defer { for listener in listeners { listener.close() } }
        plain.names["localhost"] = listeners.map(\.address)
        var found: Result<[HostPort], NetworkError>?
        network.resolve(HostPort(host: "localhost", port: 1)) { found = $0 }
        wait("the name is resolved", within: .seconds(60)) { found != nil }
        XCTAssertEqual(try XCTUnwrap(found).get(), listeners.map(\.address))
        for listener in listeners {
            var outcome: Result<any Connection, NetworkError>?
            network.connect(to: listener.address, timeout: .seconds(60)) { outcome = $0 }
            wait("an outcome", within: .seconds(60)) { outcome != nil }
            XCTAssertNoThrow(try outcome?.get().close())
        }
    }

    func testACertificateOfAnotherNameIsRefused() throws {
        let network = try network()
        let listener = try network.listen(on: .anyPort) { $0.close() }
        defer { listener.close() }
        // 127.0.0.2 is this machine too, and stands in no certificate.
        let other = try network.listen(on: HostPort(host: "127.0.0.2", port: 0)) { $0.close() }
        defer { other.close() }
        var outcome: Result<any Connection, NetworkError>?
        network.connect(to: other.address, timeout: .seconds(60)) { outcome = $0 }
        wait("an outcome", within: .seconds(60)) { outcome != nil }
        guard case .failure(let error) = outcome else { return XCTFail("connected") }
        XCTAssertEqual("\(error)", "TLS: its certificate is not accepted: IP address mismatch")
    }

    func testNodesAndClientsInOneProgram() throws {
        let folder = try Self.folder.get()
        let nodes = TestNodes(loop: loop)
        let loop = loop
        var files = SecurityFiles()
        files.tlsCertificate = folder + "/node.pem"
        files.tlsKey = folder + "/node.key"
        files.peerCertificate = folder + "/peer.pem"
        files.peerKey = folder + "/peer.key"
        files.peerCA = folder + "/peer-ca.pem"
        let security = files
        var believing = ClientSecurityFiles()
        believing.trusted = folder + "/ca.pem"
        let clientFiles = believing
        try onLoop {
            let first = try await nodes.start(
                NodeConfiguration(address: .anyPort, dataDirectory: "/data", bootstrap: true), security: security)
            let second = try await nodes.start(
                NodeConfiguration(address: .anyPort, dataDirectory: "/data", peers: [first.address]), security: security
            )
            let client = try RaftoralClient(
                peers: [second.address], on: loop, timeout: .seconds(60), security: clientFiles)
            _ = try await client.put("k", [1, 2])
            let found = try await client.get("k")
            XCTAssertEqual(found, [1, 2])
            await client.close()
            await second.shutdown()
            await first.shutdown()
        }
    }
}
