import XCTest

@testable import Simulator

/// Members come, go, are lost, move and hand over, while machines crash: some storms, always the same.
final class StormTests: XCTestCase {
    func testStormsPass() {
        for seed in UInt64(1)...4 {
            var options = SimulationOptions(seed: seed)
            options.faultSeconds = 30
            options.isStorm = true
            let outcome = simulate(options)
            XCTAssertNil(outcome.violation, "seed \(seed)")
            XCTAssertGreaterThan(outcome.statistics.variableOperations, 0, "seed \(seed)")
        }
    }
}
