import Prelude
import XCTest

@testable import Workflow

final class SampleTests: XCTestCase {
    private func cluster() -> TestCluster {
        var registry = WorkflowRegistry()
        SampleWorkflows.register(in: &registry)
        return TestCluster(registry: registry)
    }

    private func outcome(_ type: String, _ input: String) throws -> String {
        let cluster = cluster()
        let run = try cluster.startRun(type, input)
        cluster.run()
        cluster.expectEqualReplicas()
        return try cluster.outcome(run)
    }

    func test_theRegistryKnowsThem() {
        var registry = WorkflowRegistry()
        SampleWorkflows.register(in: &registry)
        XCTAssertEqual(registry.types, ["fibonacci", "ping_pong", "process_order"])
        XCTAssertEqual(registry.highestVersion(of: "fibonacci"), 1)
        XCTAssertNil(registry.highestVersion(of: "unknown"))
        XCTAssertTrue(registry.contains("ping_pong", version: 1))
        XCTAssertFalse(registry.contains("ping_pong", version: 2))
    }

    func test_pingPong() throws {
        XCTAssertEqual(try outcome("ping_pong", #"{"message":"ping"}"#), #"completed {"message":"pong"}"#)
        XCTAssertEqual(
            try outcome("ping_pong", #"{"message":"pang"}"#), #"failed expected the message "ping", got "pang""#)
    }

    func test_fibonacci() throws {
        for (n, result) in [(0, 0), (1, 1), (2, 1), (3, 2), (10, 55), (30, 832_040), (92, 7_540_113_804_746_346_429)] {
            XCTAssertEqual(try outcome("fibonacci", #"{"n":\#(n)}"#), #"completed {"result":\#(result)}"#)
        }
        for n in [-1, 93, Int.min, Int.max] {
            XCTAssertEqual(
                try outcome("fibonacci", #"{"n":\#(n)}"#),
                "failed n is \(n); it has to be from 0 to 92 for the result to fit into 64 bits")
        }
    }

    func test_fibonacciGoesOnWhereItsOwnerDied() throws {
        let cluster = cluster()
        let run = try cluster.startRun("fibonacci", #"{"n":30,"stepDelayMilliseconds":50}"#)
        cluster.run(until: .milliseconds(775))
        XCTAssertEqual(try cluster.run(run).records.count, 15)
        cluster.crash(1)
        try cluster.changeOwner(run, to: 2)
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), #"completed {"result":832040}"#)
        XCTAssertEqual(try cluster.run(run).records.map(\.key), (1...30).map { "fibonacci-\($0)" })
        XCTAssertEqual(try cluster.run(run).records.map(\.epoch.rawValue), (1...30).map { $0 <= 15 ? 1 : 2 })
        XCTAssertLessThan(cluster.clock.now, .milliseconds(1600))
    }

    func test_anOrderShips() throws {
        let cluster = cluster()
        let run = try cluster.startRun(
            "process_order", #"{"orderID":"o1","items":["book"],"amountCents":1999,"waitMilliseconds":60000}"#)
        cluster.run(until: .seconds(30))
        XCTAssertEqual(
            try cluster.run(run).records.map(\.key),
            ["validate", "reserve_inventory", "charge_payment", "wait_before_shipping"])
        cluster.crash(1)
        try cluster.changeOwner(run, to: 3)
        cluster.run()
        XCTAssertEqual(
            try cluster.outcome(run),
            #"completed {"orderID":"o1","payment":"payment-1-1-2","reservation":"reservation-1-1-1","#
                + #""shipment":"shipment-1-1-4","status":"shipped"}"#)
    }

    func test_anOrderWhosePaymentFailsReleasesItsItems() throws {
        let cluster = cluster()
        let run = try cluster.startRun(
            "process_order", #"{"orderID":"o1","items":["book"],"amountCents":1,"failPayment":true}"#)
        cluster.run()
        XCTAssertEqual(
            try cluster.outcome(run),
            "failed order o1 failed, its items are released: the payment was declined")
        let records = try cluster.run(run).records
        XCTAssertEqual(records.map(\.key), ["validate", "reserve_inventory", "charge_payment", "release_inventory"])
        XCTAssertEqual(records[2].attempt, 3)
    }

    func test_ordersThatAreNotValid() throws {
        let prefix = "failed step \"validate\" failed after 1 attempt: "
        XCTAssertEqual(
            try outcome("process_order", #"{"orderID":"","items":["a"],"amountCents":1}"#),
            prefix + "the order has no orderID")
        XCTAssertEqual(
            try outcome("process_order", #"{"orderID":"o","items":[],"amountCents":1}"#),
            prefix + "order o has no items")
        XCTAssertEqual(
            try outcome("process_order", #"{"orderID":"o","items":["a"],"amountCents":0}"#),
            prefix + "order o has no amount to pay")
    }
}
