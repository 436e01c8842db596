import Foundation

/// Points of a scenario at which something goes wrong: a sample, always the same, or all of them with RAFTORAL_CRASH=all,
/// shared out among processes by RAFTORAL_CRASH_PART=1/2. Then it also tells how far it is, every few seconds.
struct CrashPoints: Sequence, IteratorProtocol {
    private let name: String
    private let points: [Int]
    private var place = 0
    private let begin = Date()
    private var told = Date()

    private static let secondsBetweenLines = 5.0
    private static let environment = ProcessInfo.processInfo.environment

    static let isComplete = environment["RAFTORAL_CRASH"] == "all"
    /// Which part this process does, from 0, and of how many.
    private static let part: (number: Int, count: Int) = {
        let numbers = (environment["RAFTORAL_CRASH_PART"] ?? "1/1").split(separator: "/").compactMap { Int($0) }
        precondition(
            numbers.count == 2 && (1...numbers[1]).contains(numbers[0]), "RAFTORAL_CRASH_PART is NUMBER/COUNT")
        return (numbers[0] - 1, numbers[1])
    }()
    static var partCount: Int { part.count }

    init(_ name: String, of count: Int, sample: Int) {
        self.name = name
        points =
            Self.isComplete
            ? Array(stride(from: Self.part.number, to: count, by: Self.part.count))
            : Array(stride(from: count / sample / 2, to: count, by: Swift.max(1, count / sample)))
    }

    mutating func next() -> Int? {
        guard place < points.count else { return nil }
        defer { place += 1 }
        tell()
        return points[place]
    }

    private mutating func tell() {
        let now = Date()
        guard Self.isComplete, now.timeIntervalSince(told) >= Self.secondsBetweenLines else { return }
        told = now
        let left = now.timeIntervalSince(begin) / Double(place) * Double(points.count - place)
        let line = "\(name): \(place) of \(points.count), \(place * 100 / points.count) %, about \(Int(left)) s left\n"
        FileHandle.standardError.write(Data("[\(Self.part.number + 1)/\(Self.part.count)] \(line)".utf8))
    }
}

/// What came of the points, printed by a complete run.
struct CrashTable {
    private let titles: [String]
    private let outcomes: [String]
    private var counts: [String: [String: Int]] = [:]
    private var subjects: [String] = []

    init(_ subject: String, _ what: String, _ outcomes: [String]) {
        titles = [subject, what] + outcomes
        self.outcomes = outcomes
    }

    mutating func count(_ subject: String, _ outcome: String) {
        if counts[subject] == nil { subjects.append(subject) }
        counts[subject, default: [:]][outcome, default: 0] += 1
    }

    func sum(_ outcome: String) -> Int { counts.values.reduce(0) { $0 + ($1[outcome] ?? 0) } }

    func print() {
        guard CrashPoints.isComplete else { return }
        let rows = subjects.map { subject in
            let found = counts[subject] ?? [:]
            return [subject, "\(found.values.reduce(0, +))"] + outcomes.map { "\(found[$0] ?? 0)" }
        }
        let width = ([titles] + rows).map { $0[0].count }.max() ?? 0
        for row in [titles] + rows {
            let cells = zip(row, titles).dropFirst().map { cell, title in
                String(repeating: " ", count: Swift.max(0, title.count - cell.count)) + cell
            }
            Swift.print(row[0].padding(toLength: width, withPad: " ", startingAt: 0), cells.joined(separator: "  "))
        }
    }
}
