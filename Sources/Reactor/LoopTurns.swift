import HeapModule
import Prelude

/// The participants of the loop's turns.
///
/// In a round each requested participant runs at most once, in the order of registration. A request for one
/// that is still to come joins the round; any other waits for the next turn, with a poll in between.
final class LoopTurns: Turns {
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

    private func add(_ participant: Participant) {
        if let runningOrdinal, participant.ordinal > runningOrdinal {
            round.insert(participant)
        } else {
            waiting.append(participant)
        }
    }

    private final class Participant: TurnRequest, Comparable {
        let ordinal: UInt64
        private let turns: LoopTurns
        private var turn: (() -> Void)?
        private var isRequested = false

        init(ordinal: UInt64, turns: LoopTurns, turn: @escaping () -> Void) {
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
