import Prelude
import XCTest

@testable import Reactor

final class TurnsTests: LoopTestCase {
    func testRequestsOfOneTurnAreOne() {
        var runs = 0
        let request = loop.turns.register { runs += 1 }
        var isDone = false
        _ = loop.clock.schedule(after: 0) {
            for _ in 0..<10 { request.request() }
            isDone = true
        }
        wait("the timer") { isDone }
        XCTAssertEqual(runs, 1, "at the end of the same turn")
        loop.run(until: { false }, within: .milliseconds(3))
        XCTAssertEqual(runs, 1)
    }

    func testRequestWithinATurnLeadsToAnotherWithoutEvents() {
        var turns: [UInt64] = []
        var own: (any TurnRequest)?
        let request = loop.turns.register { [loop] in
            turns.append(loop.turnNumber)
            if turns.count < 5 { own?.request() }
        }
        own = request
        request.request()
        wait("five turns", within: .seconds(1)) { turns.count == 5 }
        XCTAssertEqual(Set(turns).count, 5, "once per turn")
        own = nil
    }

    func testOrderIsThatOfRegistration() {
        var order: [String] = []
        var flushRequest: (any TurnRequest)?
        var nodeRequest: (any TurnRequest)?
        let node = loop.turns.register {
            order.append("node")
            flushRequest?.request()
        }
        let flush = loop.turns.register {
            order.append("flush")
            if order.count < 4 { nodeRequest?.request() }
        }
        flushRequest = flush
        nodeRequest = node
        flush.request()
        node.request()
        wait("two rounds") { order.count == 4 }
        XCTAssertEqual(order, ["node", "flush", "node", "flush"])
        flushRequest = nil
        nodeRequest = nil
    }

    func testUnregisteredParticipantDoesNotRun() {
        var runs = 0
        let request = loop.turns.register { runs += 1 }
        request.request()
        request.unregister()
        request.request()
        var other = 0
        let second = loop.turns.register { other += 1 }
        second.request()
        wait("the other") { other == 1 }
        XCTAssertEqual(runs, 0)
    }

    func testTurnComesAfterTheCallbacksOfTheTurn() throws {
        var accepted: [any Connection] = []
        var order: [String] = []
        let request = loop.turns.register { order.append("turn") }
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { connection in
            accepted.append(connection)
            order.append("accept")
            request.request()
        }
        loop.network.connect(to: listener.address, timeout: .seconds(120)) { _ in }
        wait("the turn") { order.contains("turn") }
        XCTAssertEqual(order, ["accept", "turn"])
    }

    func testEndlessTurnsDoNotStarveInputAndTimers() throws {
        var own: (any TurnRequest)?
        var turnCount = 0
        let request = loop.turns.register {
            turnCount += 1
            own?.request()
        }
        own = request
        request.request()
        var timerFired = false
        var accepted = false
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { _ in accepted = true }
        loop.network.connect(to: listener.address, timeout: .seconds(120)) { _ in }
        _ = loop.clock.schedule(after: .milliseconds(5)) { timerFired = true }
        wait("input and a timer beside endless turns") { accepted && timerFired }
        XCTAssertGreaterThan(turnCount, 10)
        own = nil
    }

    func testIdleLoopDoesNotTurn() {
        let request = loop.turns.register {}
        request.request()
        loop.run(until: { false }, within: .milliseconds(5))
        let before = loop.turnNumber
        loop.run(until: { false }, within: .milliseconds(100))
        XCTAssertLessThan(loop.turnNumber - before, 5)
    }
}
