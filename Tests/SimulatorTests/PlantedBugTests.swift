import Prelude
import XCTest

@_spi(Planted) @testable import Node
@_spi(Planted) @testable import Raft
@_spi(Planted) @testable import Simulator

/// The simulator is worth something only if it finds mistakes: each planted one is caught, by the rule that it breaks,
/// within a bounded number of seeds. Prints a table of bug, seed and rule.
final class PlantedBugTests: XCTestCase {
    struct Planted {
        var name: String
        var seeds: ClosedRange<UInt64>
        /// Any of these may be the first to notice.
        var rules: Set<String>
        var plant: (inout SimulationOptions) -> Void
    }

    private func hunt(_ planted: Planted, file: StaticString = #filePath, line: UInt = #line) {
        for seed in planted.seeds {
            var options = SimulationOptions(seed: seed)
            options.faultSeconds = 40
            planted.plant(&options)
            guard let violation = simulate(options).violation else { continue }
            print("planted: \(planted.name) | seed \(seed) | \(violation.invariant)")
            XCTAssertTrue(
                planted.rules.contains(violation.invariant), "\(planted.name), seed \(seed): \(violation)",
                file: file, line: line)
            return
        }
        XCTFail("\(planted.name) is not found in seeds \(planted.seeds)", file: file, line: line)
    }
}
