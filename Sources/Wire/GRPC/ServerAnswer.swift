/// How far the answer to one call has come.
///
/// `nothing` → `begun` with the headers → `ended` with the status; `nothing` → `ended` when the status comes alone.
/// Whatever a handler does after the end is a benign race (the call was cancelled meanwhile) and ignored. The peer
/// cannot cause an invalid event here, and our own misuse is indistinguishable from the race.
enum ServerAnswer: Equatable {
    case nothing
    case begun
    case ended

    enum OnSend: Equatable { case beginAndQueue, queue, ignore }
    enum OnFinish: Equatable { case trailersOnly, trailers, ignore }

    mutating func send() -> OnSend {
        switch self {
        case .nothing:
            self = .begun
            return .beginAndQueue
        case .begun: return .queue
        case .ended: return .ignore
        }
    }

    mutating func finish() -> OnFinish {
        switch self {
        case .nothing:
            self = .ended
            return .trailersOnly
        case .begun:
            self = .ended
            return .trailers
        case .ended: return .ignore
        }
    }
}
