import Foundation
import XCTest

@_spi(Planted) @testable import Simulator

/// The simulator is worth something only if it finds mistakes: each planted one is caught within a bounded number of
/// seeds. Prints a table of mistake, seed and rule. In a process of its own, because some mistakes are caught by the
/// program's own invariants, which end it.
final class PlantedBugTests: XCTestCase {
    func testEveryPlantedMistakeIsCaught() throws {
        XCTAssertGreaterThanOrEqual(PlantedBug.all.count, 10)
        let process = Process()
        process.executableURL = Bundle(for: Self.self).bundleURL.appendingPathComponent("raftoral-sim")
        process.arguments = ["--planted"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        print(text)
        XCTAssertTrue(text.contains("\(PlantedBug.all.count) caught, 0 missed"), text)
        XCTAssertEqual(process.terminationStatus, 0)
    }
}
