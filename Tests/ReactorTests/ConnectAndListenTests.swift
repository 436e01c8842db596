import CUV
import Glibc
import Prelude
import XCTest

@testable import Reactor

/// How connections and listeners come about, and how they fail to.
final class ConnectAndListenTests: LoopTestCase {
    private typealias Outcome = Result<any Connection, NetworkError>

    private func outcome(of target: HostPort, timeout: Nanoseconds = .seconds(120)) throws -> Outcome {
        var outcome: Outcome?
        loop.network.connect(to: target, timeout: timeout) {
            XCTAssertNil(outcome, "completes once")
            outcome = $0
        }
        XCTAssertNil(outcome, "never before connect has returned")
        wait("the outcome", within: .seconds(60)) { outcome != nil }
        return try XCTUnwrap(outcome)
    }

    func testRefusal() throws {
        let target = try closedPort()
        guard case .failure(.cannotConnect(target, let reason)) = try outcome(of: target) else {
            return XCTFail("refused")
        }
        XCTAssertTrue(reason.contains("refused"), reason)
    }

    func testNameThatDoesNotResolve() throws {
        let target = HostPort(host: "no-such-host.invalid", port: 1)
        guard case .failure(.cannotResolve(target.host, _)) = try outcome(of: target, timeout: .seconds(120)) else {
            return XCTFail("cannot resolve")
        }
        XCTAssertThrowsError(try loop.network.listen(on: target) { _ in }) { error in
            guard case NetworkError.cannotResolve(target.host, _) = error else { return XCTFail("\(error)") }
        }
    }

    func testHostsThatNoResolverTakes() throws {
        for host in ["", String(repeating: "x", count: 300), "a..b", "300.1.1.1", "\u{1F600}\u{0}"] {
            let result = try outcome(of: HostPort(host: host, port: 1), timeout: .seconds(120))
            guard case .failure = result else { return XCTFail("connected to \(host)") }
            XCTAssertThrowsError(try loop.network.listen(on: HostPort(host: host, port: 0)) { _ in })
        }
    }

    func testNameResolvesAndItsAddressesAreTried() throws {
        var accepted: [any Connection] = []
        let listener = try loop.network.listen(on: HostPort(host: "localhost", port: 0)) { accepted.append($0) }
        XCTAssertEqual(listener.address.host, "127.0.0.1", "IPv4 comes first for a name")
        let result = try outcome(of: HostPort(host: "localhost", port: listener.address.port))
        XCTAssertEqual(try result.get().remoteAddress, listener.address)
        wait("the other end") { accepted.count == 1 }
    }

    func testWildcardListensForBothFamilies() throws {
        var accepted: [any Connection] = []
        let listener = try loop.network.listen(on: HostPort(host: "::", port: 0)) { accepted.append($0) }
        for host in ["127.0.0.1", "::1"] {
            _ = try outcome(of: HostPort(host: host, port: listener.address.port)).get()
        }
        wait("both") { accepted.count == 2 }
        XCTAssertEqual(Set(accepted.map(\.remoteAddress.host)), ["127.0.0.1", "::1"])
    }

    func testAddressInUse() throws {
        let listener = try loop.network.listen(on: anyPort) { _ in }
        XCTAssertThrowsError(try loop.network.listen(on: listener.address) { _ in }) { error in
            XCTAssertEqual(error as? NetworkError, .addressInUse(listener.address))
        }
        listener.close()
        let again = try loop.network.listen(on: listener.address) { _ in }
        XCTAssertEqual(again.address, listener.address, "free again at once")
    }

    func testAddressOfAnotherMachine() throws {
        let address = HostPort(host: "192.0.2.1", port: 0)
        XCTAssertThrowsError(try loop.network.listen(on: address) { _ in }) { error in
            guard case NetworkError.cannotListen(address, _) = error else { return XCTFail("\(error)") }
        }
    }

    func testListeningOnAClosedLoop() throws {
        loop.close()
        XCTAssertThrowsError(try loop.network.listen(on: anyPort) { _ in })
        loop.network.connect(to: anyPort, timeout: .seconds(1)) { _ in XCTFail("nothing completes any more") }
    }

    func testTimeoutOfASilentPeer() throws {
        let silent = try SilentListener()
        defer { silent.close() }
        let start = loop.clock.now
        let result = try outcome(of: silent.address, timeout: .milliseconds(100))
        guard case .failure(.timedOut(silent.address)) = result else { return XCTFail("\(result)") }
        XCTAssertGreaterThanOrEqual(loop.clock.now - start, .milliseconds(100))
    }

    func testZeroTimeout() throws {
        let silent = try SilentListener()
        defer { silent.close() }
        let result = try outcome(of: silent.address, timeout: 0)
        guard case .failure(.timedOut) = result else { return XCTFail("\(result)") }
    }

    func testNextAddressIsTriedBesideASilentOne() throws {
        let silent = try SilentListener()
        defer { silent.close() }
        var accepted: [any Connection] = []
        let listener = try loop.network.listen(on: anyPort) { accepted.append($0) }
        let result = try outcome(ofAddresses: [silent.address, try closedPort(), listener.address])
        XCTAssertEqual(try result.get().remoteAddress, listener.address)
        wait("the other end") { accepted.count == 1 }
    }

    func testAllAddressesFail() throws {
        let addresses = [try closedPort(), try closedPort()]
        guard case .failure(.cannotConnect(_, let reason)) = try outcome(ofAddresses: addresses) else {
            return XCTFail("nobody listens")
        }
        for address in addresses { XCTAssertTrue(reason.contains("\(address)"), reason) }
        guard case .failure(.cannotConnect) = try outcome(ofAddresses: []) else { return XCTFail("no address") }
    }

    func testFamiliesAlternate() throws {
        let hosts = ["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"]
        let addresses = try hosts.map { try XCTUnwrap(NameResolution.literal(HostPort(host: $0, port: 7))) }
        XCTAssertEqual(
            SocketAddress.interleaved(addresses).map(\.hostPort.host), ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"])
        XCTAssertEqual(addresses.map(\.port), [7, 7, 7, 7, 7])
        XCTAssertTrue(SocketAddress.interleaved([]).isEmpty)
    }

    func testConnectsUnderWayEndWhenTheLoopCloses() throws {
        let silent = try SilentListener()
        defer { silent.close() }
        var outcomes: [Outcome] = []
        loop.network.connect(to: silent.address, timeout: .seconds(60)) { outcomes.append($0) }
        loop.network.connect(to: HostPort(host: "localhost", port: 1), timeout: .seconds(60)) { outcomes.append($0) }
        loop.run(until: { false }, within: .milliseconds(1))
        loop.close()
        XCTAssertEqual(outcomes.count, 2)
        guard case .failure(.closedLocally) = outcomes.first else { return XCTFail("\(outcomes)") }
    }

    func testListenerRestsWhileThereAreNoDescriptors() throws {
        var accepted: [any Connection] = []
        let listener = try loop.network.listen(on: anyPort) { accepted.append($0) }
        let clientCount = 5
        var clients: [Int32] = []
        defer { for client in clients { close(client) } }
        for _ in 0..<clientCount { clients.append(try bareClient(connectedTo: listener.address)) }
        var others: [Int32] = []
        // The limit comes down, so that few descriptors use it up.
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        var low = before
        low.rlim_cur = rlim_t(openDescriptorCount() + 20)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &low)
        while true {
            let other = dup(0)
            if other < 0 { break }
            others.append(other)
        }
        let turnsBefore = loop.turnNumber
        loop.run(until: { false }, within: .milliseconds(50))
        XCTAssertEqual(accepted.count, 0)
        XCTAssertLessThan(loop.turnNumber - turnsBefore, 20, "it does not spin")
        for other in others { close(other) }
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        wait("those that waited in the backlog") { accepted.count == clientCount }
    }
}

/// Listens with a full backlog, so that the system answers nobody who knocks.
private final class SilentListener {
    let address: HostPort
    private var descriptors: [Int32] = []

    init() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let local = try XCTUnwrap(NameResolution.literal(HostPort(host: "127.0.0.1", port: 0)))
        XCTAssertEqual(local.withPointer { bind(listener, $0, $1) }, 0)
        XCTAssertEqual(listen(listener, 0), 0)
        descriptors.append(listener)
        let bound = try XCTUnwrap(SocketAddress { getsockname(listener, $0, $1) })
        address = bound.hostPort
        for _ in 0..<4 {
            let flags = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
            let client = socket(AF_INET, flags, 0)
            _ = bound.withPointer { connect(client, $0, $1) }
            descriptors.append(client)
        }
    }

    func close() {
        for descriptor in descriptors { _ = Glibc.close(descriptor) }
    }
}

/// The pause before the next address is tried beside a silent one is longer than any test takes.
final class FailedAddressTests: LoopTestCase {
    override var limits: ReactorLimits {
        var limits = ReactorLimits()
        limits.connectStaggerMilliseconds = 3_600_000
        return limits
    }

    func testNextAddressIsTriedAtOnceWhenOneFails() throws {
        let listener = try loop.network.listen(on: anyPort) { _ in }
        let result = try outcome(ofAddresses: [try closedPort(), try closedPort(), listener.address])
        XCTAssertEqual(try result.get().remoteAddress, listener.address)
    }
}

extension LoopTestCase {
    fileprivate var anyPort: HostPort { HostPort(host: "127.0.0.1", port: 0) }

    /// A port on which nobody listens.
    fileprivate func closedPort() throws -> HostPort {
        let listener = try loop.network.listen(on: anyPort) { _ in }
        listener.close()
        loop.run(until: { false }, within: .milliseconds(1))
        return listener.address
    }

    fileprivate func outcome(ofAddresses addresses: [HostPort]) throws -> Result<any Connection, NetworkError> {
        var outcome: Result<any Connection, NetworkError>?
        let attempt = ConnectAttempt(loop: loop, target: HostPort(host: "several", port: 1)) { outcome = $0 }
        attempt.start(timeout: .seconds(120), known: try addresses.map { try XCTUnwrap(NameResolution.literal($0)) })
        wait("the outcome") { outcome != nil }
        return try XCTUnwrap(outcome)
    }
}
