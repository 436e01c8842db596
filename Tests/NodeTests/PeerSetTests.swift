import Prelude
import XCTest

@testable import Node

final class PeerSetTests: XCTestCase {
    private let here = HostPort(host: "here", port: 1)
    private let near = HostPort(host: "near", port: 1)
    private let far = HostPort(host: "far", port: 1)
    private let limits = ClientLimits()

    private func peers() -> PeerSet {
        var set = PeerSet(limits: limits, random: SeededRandom(seed: 7))
        set.replace(with: [far, here, near])
        set.answered(here, after: .milliseconds(1), leader: nil)
        set.answered(near, after: .milliseconds(2), leader: nil)
        set.answered(far, after: .milliseconds(80), leader: far)
        return set
    }

    func testPeersAboutAsNearAsTheNearestShareTheCalls() {
        var set = peers()
        var chosen: [HostPort: Int] = [:]
        for _ in 0..<100 { chosen[set.next(prefersLeader: false, tried: [], now: 0) ?? far, default: 0] += 1 }
        XCTAssertEqual(Set(chosen.keys), [here, near])
        XCTAssertGreaterThan(chosen.values.min() ?? 0, 20)
    }

    func testAWriteGoesToTheLeaderAsLongAsItIsWell() {
        var set = peers()
        XCTAssertEqual(set.next(prefersLeader: true, tried: [], now: 0), far)
        set.failed(far, now: 0)
        XCTAssertNil(set.leader)
        XCTAssertNotEqual(set.next(prefersLeader: true, tried: [], now: 0), far)
    }

    func testALeaderThatTheListDoesNotNameIsKnownFromHints() {
        var set = PeerSet(limits: limits, random: SeededRandom(seed: 1))
        set.replace(with: [here])
        set.answered(here, after: 5, leader: far)
        XCTAssertEqual(set.addresses, [here, far])
        XCTAssertEqual(set.next(prefersLeader: true, tried: [], now: 0), far)
        XCTAssertEqual(set.next(prefersLeader: false, tried: [], now: 0), here)
    }

    /// As when peers are addresses, and nodes tell names.
    func testTheNamesOfOneNodeAreOnePeer() {
        let name = HostPort(host: "far.example", port: 1)
        var set = PeerSet(limits: limits, random: SeededRandom(seed: 1))
        set.replace(with: [here, far])
        // Said to be there before it has answered under its other name, or after that.
        set.answered(here, as: 1, after: 5, leader: name, leaderNode: 2)
        XCTAssertEqual(set.addresses, [here, far, name])
        set.answered(far, as: 2, after: 9, leader: name, leaderNode: 2)
        XCTAssertEqual(set.addresses, [here, far])
        XCTAssertEqual(set.next(prefersLeader: true, tried: [], now: 0), far)
        set.answered(here, as: 1, after: 5, leader: name, leaderNode: 2)
        XCTAssertEqual(set.addresses, [here, far])
    }

    func testAnotherNameInTheListIsLeftAloneUntilTheFirstFails() {
        var set = PeerSet(limits: limits, random: SeededRandom(seed: 1))
        set.replace(with: [here, near, far])
        set.answered(here, as: 1, after: 5, leader: nil)
        set.answered(near, as: 1, after: 5, leader: nil)
        XCTAssertEqual(set.addresses, [here, far])
        set.replace(with: [here, near, far])
        XCTAssertEqual(set.addresses, [here, far])
        set.failed(here, now: 0)
        set.replace(with: [here, near, far])
        XCTAssertEqual(set.addresses, [here, near, far])
        // Without the first name the other one is all there is.
        set.answered(here, as: 1, after: 5, leader: nil)
        set.answered(near, as: 1, after: 5, leader: nil)
        set.replace(with: [near])
        XCTAssertEqual(set.addresses, [near])
    }

    func testAPeerThatFailsRestsLongerEachTimeWithinItsBounds() {
        var set = peers()
        var longest: Nanoseconds = 0
        for failure in 0..<20 {
            set.failed(here, now: 0)
            let rest = set.peers.first { $0.address == here }?.restsUntil ?? 0
            let step = min(
                Nanoseconds.milliseconds(limits.peerRestMillisecondsMin) << Nanoseconds(failure),
                .milliseconds(limits.peerRestMillisecondsMax))
            XCTAssertTrue((step / 2...step / 2 * 3).contains(rest), "failure \(failure): \(rest)")
            longest = max(longest, rest)
        }
        XCTAssertLessThanOrEqual(longest, .milliseconds(limits.peerRestMillisecondsMax) / 2 * 3)
        set.succeeded(here)
        XCTAssertEqual(set.peers.first { $0.address == here }?.restsUntil, 0)
    }

    func testWhenAllRestTheOneThatWakesFirstIsAsked() {
        var set = peers()
        for _ in 0..<4 { set.failed(far, now: 0) }
        set.failed(here, now: 0)
        for _ in 0..<9 { set.failed(near, now: 0) }
        XCTAssertEqual(set.next(prefersLeader: false, tried: [], now: 0), here)
        XCTAssertEqual(set.next(prefersLeader: false, tried: [here], now: 0), far)
        XCTAssertNil(set.next(prefersLeader: false, tried: [here, near, far], now: 0))
    }

    func testAnotherAnswerOfTheResolverKeepsWhatIsKnown() {
        var set = peers()
        let new = HostPort(host: "new", port: 1)
        set.replace(with: [new, here, here])
        XCTAssertEqual(set.addresses, [new, here])
        XCTAssertEqual(set.peers.map(\.latency), [nil, .milliseconds(1)])
    }

    func testThePeersAreBounded() {
        var set = PeerSet(limits: limits, random: SeededRandom(seed: 1))
        set.replace(with: (0..<1000).map { HostPort(host: "host\($0)", port: 1) })
        XCTAssertEqual(set.peers.count, limits.peerCountMax)
        set.answered(HostPort(host: "host0", port: 1), after: 1, leader: far)
        XCTAssertEqual(set.peers.count, limits.peerCountMax)
    }
}
