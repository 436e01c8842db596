import Prelude

/// What a log entry brings with it besides its command. The same on every replica.
public struct ApplyContext: Equatable, Sendable {
    public var group: GroupID
    /// Where in the group's log the command stands.
    public var index: LogIndex
    /// The leader's clock at the time of the proposal, Unix milliseconds.
    public var timeMilliseconds: Int64
    /// Nil for commands that may be applied as often as they appear in the log.
    public var origin: CommandOrigin?

    public init(group: GroupID, index: LogIndex, timeMilliseconds: Int64, origin: CommandOrigin? = nil) {
        self.group = group
        self.index = index
        self.timeMilliseconds = timeMilliseconds
        self.origin = origin
    }
}

/// What applying a command came to. Anything but `refused` and `duplicate` tells that what the command asks
/// for holds, be it by this command or by an equal one before it.
public enum CommandResult: Equatable, Sendable {
    /// Also the answer to a repeated request: the run that the first one started.
    case started(RunID, workflowID: String)
    case ended
    case recorded
    /// Something is recorded at this position already, under the same kind and key. It stays as it is.
    case alreadyRecorded
    case timerStarted(fireAtMilliseconds: Int64)
    case timerFired
    case ownerChanged(Epoch)
    case stalled
    case variable(revision: UInt64)
    /// With the revision that the variable has now; 0 when it does not exist.
    case swapped(Bool, revision: UInt64)
    case deleted(existed: Bool)
    /// This origin's command was applied before; whoever waited for it has its answer from then.
    case duplicate
    case refused(Refusal)
}

/// Why the machine left its state as it was.
public enum Refusal: Error, Equatable, Sendable {
    /// The workflow id has a run that is not over.
    case alreadyExists(RunID)
    case unknownRun(RunID)
    case runEnded(RunID, WorkflowStatus)
    case runStalled(RunID)
    /// The sender does not own the run, or does not own it any more.
    case staleEpoch(current: Epoch)
    /// Another step, value or timer is recorded there.
    case positionConflict(position: UInt32, recordedKind: RecordKind, recordedKey: String)
    case unknownTimer(position: UInt32)
    case timerNotDue(fireAtMilliseconds: Int64)
    case limitExceeded(Limit, value: Int, max: Int)
    /// The origin is an earlier life of its node, or older than what is remembered of it.
    case superseded
    case invalid(String)

    public enum Limit: String, Sendable {
        case identifierByteCount = "bytes of an identifier"
        case payloadByteCount = "bytes of a payload"
        case failureByteCount = "bytes of a failure"
        case position = "position in a run's history"
        case historyByteCount = "bytes of a run's history"
        case runningCount = "runs that are not over"
        case stateByteCount = "bytes of the group's state"
        case variableKeyByteCount = "bytes of a variable's key"
        case variableValueByteCount = "bytes of a variable's value"
        case variableCount = "variables"
    }
}

extension Refusal: CustomStringConvertible {
    public var description: String {
        switch self {
        case .alreadyExists(let run): "the workflow id is in use: run \(run) is not over"
        case .unknownRun(let run): "there is no run \(run)"
        case .runEnded(let run, let status): "run \(run) is over: \(status)"
        case .runStalled(let run): "run \(run) is stalled"
        case .staleEpoch(let current): "the run has changed owners: its epoch is \(current)"
        case .positionConflict(let position, let kind, let key):
            "position \(position) of the run holds the \(kind) \"\(key)\""
        case .unknownTimer(let position): "the run has no timer at position \(position)"
        case .timerNotDue(let fireAt): "the timer fires at \(fireAt) ms"
        case .limitExceeded(let limit, let value, let max): "\(value) \(limit.rawValue); at most \(max) are allowed"
        case .superseded: "the proposal is from an earlier life of its node, or too old"
        case .invalid(let reason): reason
        }
    }
}

/// What follows from an applied command. The machine performs none of it.
public enum Effect: Equatable, Sendable {
    /// The run waits for its owner, as given in the run, to execute it.
    case execute(RunID)
    case checkpointRecorded(RunID, position: UInt32)
    case timerStarted(RunID, position: UInt32, fireAtMilliseconds: Int64)
    case timerFired(RunID, position: UInt32)
    case ended(RunID)
    /// The named owner has to stop executing the run. `execute` for the new one follows.
    case ownerChanged(RunID, oldOwner: NodeID, oldIncarnation: Incarnation)
    case stalled(RunID)
    /// An ended run that is not remembered any more.
    case forgotten(RunID)
}
