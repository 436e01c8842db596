import HeapModule
import Prelude

/// The participants of a loop's turns, with the order that `Turns` promises.
final class SimulatedTurns: Turns {
    private var waiting: [Participant] = []
    private var round = Heap<Participant>()
    private var runningOrdinal: UInt64?
    private var nextOrdinal: UInt64 = 0

    var isRequested: Bool { !waiting.isEmpty }

    func register(_ turn: @escaping () -> Void) -> any TurnRequest {
        defer { nextOrdinal += 1 }
        return Participant(ordinal: nextOrdinal, turns: self, turn: turn)
    }

    func runRound() {
        guard !waiting.isEmpty else { return }
        round = Heap(waiting)
        waiting.removeAll(keepingCapacity: true)
        while let participant = round.popMin() {
            runningOrdinal = participant.ordinal
            participant.run()
        }
        runningOrdinal = nil
    }

    func removeAll() { waiting = [] }

    /// A participant whose place is still to come joins the round.
    private func add(_ participant: Participant) {
        if let runningOrdinal, participant.ordinal > runningOrdinal {
            round.insert(participant)
        } else {
            waiting.append(participant)
        }
    }

    private final class Participant: TurnRequest, Comparable {
        let ordinal: UInt64
        private let turns: SimulatedTurns
        private var turn: (() -> Void)?
        private var isRequested = false

        init(ordinal: UInt64, turns: SimulatedTurns, turn: @escaping () -> Void) {
            self.ordinal = ordinal
            self.turns = turns
            self.turn = turn
        }

        func request() {
            guard !isRequested, turn != nil else { return }
            isRequested = true
            turns.add(self)
        }

        func unregister() { turn = nil }

        func run() {
            isRequested = false
            turn?()
        }

        static func < (left: Participant, right: Participant) -> Bool { left.ordinal < right.ordinal }
        static func == (left: Participant, right: Participant) -> Bool { left === right }
    }
}
