import Prelude

/// Work that runs when it is told to, on the caller's thread, in an order that a seed gives.
public final class ManualWork: Work {
    private var bodies: [() -> () -> Void] = []
    private var completions: [() -> Void] = []
    private var random: SeededRandom?

    /// Without a seed everything runs in the order in which it was given.
    public init(seed: UInt64? = nil) { random = seed.map(SeededRandom.init(seed:)) }

    public var isIdle: Bool { bodies.isEmpty && completions.isEmpty }

    public func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        bodies.append {
            let output = body()
            return { completion(output) }
        }
    }

    /// Runs one body, or one completion of a body that has run. False when there is nothing to do.
    @discardableResult
    public func step() -> Bool {
        if completions.isEmpty && bodies.isEmpty { return false }
        let choice = pick(bodies.count + completions.count)
        if choice < completions.count {
            completions.remove(at: choice)()
        } else {
            completions.append(bodies.remove(at: choice - completions.count)())
        }
        return true
    }

    public func runUntilIdle() { while step() {} }

    /// Forgets what has not run, as when the process dies.
    public func abandon() {
        bodies = []
        completions = []
    }

    private func pick(_ count: Int) -> Int {
        guard var generator = random else { return 0 }
        defer { random = generator }
        return Int.random(in: 0..<count, using: &generator)
    }
}
