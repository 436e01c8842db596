import Simulator

struct Transfer: Codable, Sendable {
    var from, to: Int
    var cents: Int
}

struct Receipt: Codable, Sendable {
    var withdrawal, deposit: Int
}

/// The bank that the workflow talks to. It is outside of the cluster: crashes of nodes do not touch it. An order that it
/// has carried out already, by its key, is not carried out again.
final class Bank: @unchecked Sendable {
    // Sendable, because a simulation has one thread.
    private(set) var balances = [Int](repeating: 10_000, count: 8)
    private var carriedOut: [String: Int] = [:]

    func move(_ cents: Int, account: Int, key: String) -> Int {
        if let known = carriedOut[key] { return known }
        balances[account] += cents
        carriedOut[key] = carriedOut.count + 1
        return carriedOut.count
    }
}

@main
struct Transfers {
    static func main() {
        let failed = simulate(seeds: 1...3) { options in
            let bank = Bank()
            options.faultSeconds = 20
            options.register = { workflows, _ in register(in: &workflows, bank) }
            options.workflows = [transfer]
            // Once all faults have ended and all workflows too: whatever was withdrawn has been deposited.
            options.endProblem = { _ in
                let sum = bank.balances.reduce(0, +)
                return sum == 80_000 ? nil : "the bank has \(sum) cents, and had 80000"
            }
        }
        print(failed.isEmpty ? "all seeds passed" : "\(failed.count) seeds failed")
    }

    static func register(in workflows: inout WorkflowRegistry, _ bank: Bank) {
        workflows.register("transfer") { (context, order: Transfer) in
            let withdrawal: Int = try await context.step("withdraw") { token in
                bank.move(-order.cents, account: order.from, key: token.description)
            }
            try await context.sleep(for: .milliseconds(200))
            let deposit: Int = try await context.step("deposit") { token in
                bank.move(order.cents, account: order.to, key: token.description)
            }
            return Receipt(withdrawal: withdrawal, deposit: deposit)
        }
    }

    /// What clients start, with an input made from a random number, and what is wrong with a result, if anything.
    static let transfer = SimulatedWorkflow(type: "transfer") { number in
        "{\"from\":\(number % 8),\"to\":\(number / 8 % 8),\"cents\":\(1 + number % 500)}"
    } problem: { input, result, run, effects in
        result == nil ? "the transfer failed" : nil
    }
}
