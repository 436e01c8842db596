/// Workflows that come with the program, to try a cluster with.
public enum SampleWorkflows {
    /// Registers `ping_pong`, `fibonacci` and `process_order`, each as version 1.
    public static func register(in registry: inout WorkflowRegistry) {
        registry.register("ping_pong", pingPong)
        registry.register("fibonacci", fibonacci)
        registry.register("process_order", processOrder)
    }
}

// MARK: - ping_pong

extension SampleWorkflows {
    struct Ball: Codable, Sendable, Equatable { var message: String }

    /// `{"message":"ping"}` → `{"message":"pong"}`; every other message fails. Records nothing on its way.
    @Sendable
    static func pingPong(_ context: WorkflowContext, _ input: Ball) async throws -> Ball {
        guard input.message == "ping" else {
            throw WorkflowFailure("expected the message \"ping\", got \"\(input.message.prefix(64))\"")
        }
        return Ball(message: "pong")
    }
}

// MARK: - fibonacci

extension SampleWorkflows {
    struct FibonacciInput: Codable, Sendable {
        var n: Int
        var stepDelayMilliseconds: Int?
    }

    struct FibonacciOutput: Codable, Sendable, Equatable { var result: Int64 }

    /// `{"n":30,"stepDelayMilliseconds":50}` → `{"result":832040}`, in n steps of the given length.
    @Sendable
    static func fibonacci(_ context: WorkflowContext, _ input: FibonacciInput) async throws -> FibonacciOutput {
        guard (0...92).contains(input.n) else {
            throw WorkflowFailure("n is \(input.n); it has to be from 0 to 92 for the result to fit into 64 bits")
        }
        let delay = Duration.milliseconds(max(0, min(input.stepDelayMilliseconds ?? 0, 3_600_000)))
        var previous: Int64 = 1
        var current: Int64 = 0
        for place in stride(from: 1, through: input.n, by: 1) {
            let (first, second) = (previous, current)
            let next: Int64 = try await context.step("fibonacci-\(place)") {
                if delay > .zero { try await context.pause(for: delay) }
                return first + second
            }
            previous = current
            current = next
        }
        return FibonacciOutput(result: current)
    }
}

// MARK: - process_order

extension SampleWorkflows {
    struct Order: Codable, Sendable {
        var orderID: String
        var items: [String]
        var amountCents: Int
        /// The payment is declined, every time.
        var failPayment: Bool?
        /// Between payment and shipping.
        var waitMilliseconds: Int?
    }

    struct Receipt: Codable, Sendable, Equatable {
        var orderID: String
        var status: String
        var reservation: String
        var payment: String
        var shipment: String
    }

    private struct PaymentDeclined: Error, CustomStringConvertible {
        var description: String { "the payment was declined" }
    }

    /// Validates an order, reserves its items, charges for them, waits durably, and ships. When the payment fails the
    /// items are released again and the run fails. No other system is involved: the steps make up what such
    /// systems would answer, from the tokens that they would be called with.
    @Sendable
    static func processOrder(_ context: WorkflowContext, _ order: Order) async throws -> Receipt {
        try await context.step("validate") {
            if order.orderID.isEmpty { throw WorkflowFailure("the order has no orderID") }
            if order.items.isEmpty { throw WorkflowFailure("order \(order.orderID) has no items") }
            if order.amountCents <= 0 { throw WorkflowFailure("order \(order.orderID) has no amount to pay") }
        }
        let reservation = try await context.step("reserve_inventory") { token in "reservation-\(token)" }
        let payment: String
        do {
            let retry = RetryPolicy(attemptCountMax: 3, initialBackoff: .milliseconds(100))
            payment = try await context.step("charge_payment", retry: retry) { token in
                if order.failPayment == true { throw PaymentDeclined() }
                return "payment-\(token)"
            }
        } catch let failure as StepFailed {
            try await context.step("release_inventory") {}
            throw WorkflowFailure("order \(order.orderID) failed, its items are released: \(failure.message)")
        }
        if let wait = order.waitMilliseconds, wait > 0 {
            try await context.sleep(for: .milliseconds(wait), "wait_before_shipping")
        }
        let shipment = try await context.step("ship") { token in "shipment-\(token)" }
        return Receipt(
            orderID: order.orderID, status: "shipped", reservation: reservation, payment: payment,
            shipment: shipment)
    }
}
