import Prelude

/// The participants of a loop's turns, with the order that `Turns` promises.
final class SimulatedTurns: Turns {
    private var waiting: [Participant] = []
    /// Of the present round, those whose turn is still to come, the last of them first.
    private var round: [Participant] = []
    private var runningOrdinal: UInt64?
    private var nextOrdinal: UInt64 = 0

    var isRequested: Bool { !waiting.isEmpty }

    func register(_ turn: @escaping () -> Void) -> any TurnRequest {
        defer { nextOrdinal += 1 }
        return Participant(ordinal: nextOrdinal, turns: self, turn: turn)
    }

    func runRound() {
        guard !waiting.isEmpty else { return }
        swap(&round, &waiting)
        if round.count > 1 { round.sort { $0.ordinal > $1.ordinal } }
        while let participant = round.popLast() {
            runningOrdinal = participant.ordinal
            participant.run()
        }
        runningOrdinal = nil
    }

    func removeAll() { waiting = [] }

    /// A participant whose place is still to come joins the round.
    private func add(_ participant: Participant) {
        if let runningOrdinal, participant.ordinal > runningOrdinal {
            let place = round.lastIndex { $0.ordinal > participant.ordinal }.map { $0 + 1 } ?? 0
            round.insert(participant, at: place)
        } else {
            waiting.append(participant)
        }
    }

    private final class Participant: TurnRequest {
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
    }
}
