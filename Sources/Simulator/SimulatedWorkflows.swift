import Foundation
import Prelude
import Workflow

/// What the bodies of steps did to the world outside of the cluster. Each execution gives another number, so that a
/// recorded result names the execution that it came from.
public final class SideEffects: @unchecked Sendable {
    // Sendable, because a simulation has one thread.
    private var executions: [Key: [UInt64]] = [:]
    public private(set) var count: UInt64 = 0

    private struct Key: Hashable {
        let run: RunID
        let step: String
    }

    public init() {}

    /// Happens outside of the cluster, once per call.
    public func execute(_ run: RunID, _ step: String) -> UInt64 {
        count += 1
        executions[Key(run: run, step: step), default: []].append(count)
        return count
    }

    public func executions(of run: RunID, _ step: String) -> [UInt64] { executions[Key(run: run, step: step)] ?? [] }
}

/// A workflow that the simulation starts again and again, with what its end has to look like.
public struct SimulatedWorkflow: Sendable {
    public var type: String
    /// Makes the input of one run from a random number, as JSON.
    public var input: @Sendable (UInt64) -> String
    /// What is wrong with the result of a run; nil when it is right. The result is JSON; nil for a run that failed.
    public var problem: @Sendable (_ input: String, _ result: String?, RunID, SideEffects) -> String?

    public init(
        type: String, input: @escaping @Sendable (UInt64) -> String,
        problem: @escaping @Sendable (String, String?, RunID, SideEffects) -> String?
    ) {
        self.type = type
        self.input = input
        self.problem = problem
    }
}

extension SimulatedWorkflow {
    /// `fibonacci`, `process_order` and `fan_out`.
    public static let all = [fibonacci, processOrder, fanOut]

    static func register(in registry: inout WorkflowRegistry, _ effects: SideEffects) {
        SampleWorkflows.register(in: &registry)
        registry.register("fan_out") { context, input in try await FanOut.run(context, input, effects) }
    }

    /// Three steps, two of them at the same time: a load to measure by.
    public static let steady = SimulatedWorkflow(type: "fan_out") { _ in
        "{\"width\":2,\"waitMilliseconds\":0}"
    } problem: {
        fanOut.problem($0, $1, $2, $3)
    }

    static let fibonacci = SimulatedWorkflow(type: "fibonacci") { number in
        "{\"n\":\(number % 12),\"stepDelayMilliseconds\":\(number / 16 % 4 * 20)}"
    } problem: { input, result, _, _ in
        struct Input: Decodable { var n: Int }
        guard let n = decode(Input.self, input)?.n else { return "unreadable input" }
        var (previous, current) = (1, 0)
        for _ in 0..<n { (previous, current) = (current, previous + current) }
        let expected = "{\"result\":\(current)}"
        return result == expected ? nil : "expected \(expected)"
    }

    static let processOrder = SimulatedWorkflow(type: "process_order") { number in
        """
        {"orderID":"o-\(number % 100_000)","items":["a"],"amountCents":100,\
        "failPayment":\(number % 5 == 0),"waitMilliseconds":\(number / 8 % 3 * 700)}
        """
    } problem: { input, result, run, _ in
        struct Input: Decodable { var orderID: String; var failPayment: Bool }
        struct Output: Decodable { var orderID, status, reservation, payment, shipment: String }
        guard let order = decode(Input.self, input) else { return "unreadable input" }
        guard let result else { return order.failPayment ? nil : "the run failed" }
        guard let receipt = decode(Output.self, result) else { return "unreadable result" }
        if order.failPayment { return "a run whose payment fails succeeded" }
        guard receipt.orderID == order.orderID, receipt.status == "shipped" else { return "another order's receipt" }
        return receipt.reservation == receipt.payment ? "two steps had one token" : nil
    }

    static let fanOut = SimulatedWorkflow(type: "fan_out") { number in
        "{\"width\":\(1 + number % 5),\"waitMilliseconds\":\(number / 8 % 3 * 300)}"
    } problem: { input, result, run, effects in
        guard let order = decode(FanOut.Input.self, input) else { return "unreadable input" }
        guard let result, let output = decode(FanOut.Output.self, result) else { return "the run failed" }
        guard output.parts.count == order.width else { return "\(output.parts.count) parts of \(order.width)" }
        for (place, part) in output.parts.enumerated()
        where !effects.executions(of: run, "part-\(place)").contains(part) {
            return "part \(place) has the result \(part), which no execution of its body gave"
        }
        guard effects.executions(of: run, "last").contains(output.last) else {
            return "the last step has the result \(output.last), which no execution of its body gave"
        }
        return nil
    }

    private static func decode<Value: Decodable>(_ type: Value.Type, _ json: String) -> Value? {
        try? JSONDecoder().decode(type, from: Data(json.utf8))
    }
}

/// Steps in parallel, a durable wait, and one more step.
enum FanOut {
    struct Input: Codable, Sendable {
        var width: Int
        var waitMilliseconds: Int
    }

    struct Output: Codable, Sendable {
        var parts: [UInt64]
        var last: UInt64
    }

    static func run(_ context: WorkflowContext, _ input: Input, _ effects: SideEffects) async throws -> Output {
        let run = context.runID
        var parts = [UInt64](repeating: 0, count: input.width)
        try await withThrowingTaskGroup(of: (Int, UInt64).self) { group in
            for place in 0..<input.width {
                group.addTask {
                    let value: UInt64 = try await context.step("part-\(place)") {
                        if place % 2 == 1 { try await context.pause(for: .milliseconds(5)) }
                        return effects.execute(run, "part-\(place)")
                    }
                    return (place, value)
                }
            }
            for try await (place, value) in group { parts[place] = value }
        }
        if input.waitMilliseconds > 0 { try await context.sleep(for: .milliseconds(input.waitMilliseconds)) }
        let last: UInt64 = try await context.step("last") { effects.execute(run, "last") }
        return Output(parts: parts, last: last)
    }
}
