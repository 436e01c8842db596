import Foundation
import Prelude
import XCTest

@testable import Workflow

private struct Text: Codable, Sendable { var text: String }

final class RuntimeTests: XCTestCase {
    func test_aWorkflowOfStepsCompletes() throws {
        let ledger = Ledger()
        let thread = pthread_self()
        var registry = WorkflowRegistry()
        registry.register("sum") { (context: WorkflowContext, input: [Int]) async throws -> Int in
            var sum = 0
            for number in input {
                sum += try await context.step("add") {
                    XCTAssertNotEqual(pthread_equal(pthread_self(), thread), 0, "steps run on the loop")
                    ledger.note("add")
                    return number
                }
            }
            return sum
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("sum", "[1,2,3]")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 6")
        XCTAssertEqual(ledger.count("add"), 3)
        XCTAssertEqual(try cluster.run(run).records.map(\.key), ["add", "add", "add"])
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 0)
        XCTAssertEqual(cluster[1].runtime?.taskCount, 0)
        cluster.expectEqualReplicas()
    }
}
