import Prelude
import Storage
import Wire
@_spi(Planted) import Workflow

/// Where and when an entry is applied.
struct AppliedEntry {
    var group: GroupID
    var index: LogIndex
    var timeMilliseconds: Int64
    var origin: CommandOrigin
}

/// What a group's machine answered to one entry.
enum AppliedResult {
    case directory(DirectoryResult)
    case workflow(CommandResult)
    /// The entry's payload is not one that this machine knows.
    case undecodable(String)
}

/// The deterministic part of a group: the same entries give the same state, results and effects on every node.
protocol ReplicatedMachine: AnyObject {
    func apply(_ payload: ArraySlice<UInt8>, _ entry: AppliedEntry) -> (result: AppliedResult, effects: [Effect])
    func snapshot() -> [UInt8]
    func restore(_ snapshot: [UInt8]) throws(MalformedBytes)
    /// Adds what has changed since the last batch; everything, after `restore` from a snapshot and at the beginning.
    func fill(_ batch: inout StateBatch)
    /// Makes of a stored state, on any thread, what this machine takes in the place of its own.
    var preparation: @Sendable (StoredState) throws(ImpossibleContent) -> PreparedState { get }
    func take(_ prepared: PreparedState)
}

extension ReplicatedMachine {
    func restore(_ stored: StoredState) throws(ImpossibleContent) { take(try preparation(stored)) }
}

/// The state of a machine, on its way from the thread that made it to the loop that takes it.
struct PreparedState: @unchecked Sendable {
    // Sendable: only one has it at a time.
    enum Content {
        case workflows(WorkflowMachine)
        case directory(DirectoryState)
    }

    var content: Content
}

/// Groups from 1: workflows and variables.
final class WorkflowGroupMachine: ReplicatedMachine {
    private(set) var machine: WorkflowMachine
    private let group: GroupID
    private let limits: WorkflowLimits
    private let plantedBugs: NodePlantedBugs
    /// What the store holds is not what the machine's changes build on.
    var mustReplaceStored = true

    init(group: GroupID, limits: WorkflowLimits, plantedBugs: NodePlantedBugs = []) {
        self.group = group
        self.limits = limits
        self.plantedBugs = plantedBugs
        machine = WorkflowMachine(group: group, limits: limits)
        prepare()
    }

    func apply(_ payload: ArraySlice<UInt8>, _ entry: AppliedEntry) -> (result: AppliedResult, effects: [Effect]) {
        let command: Command
        do throws(DecodingFailure) {
            command = try payload.withUnsafeBytes { bytes in
                Result { () throws(DecodingFailure) in try Command(decoding: bytes) }
            }.get()
        } catch {
            return (.undecodable(error.description), [])
        }
        let origin = plantedBugs.contains(.appliesRepetitions) ? nil : entry.origin
        let context = ApplyContext(
            group: group, index: entry.index, timeMilliseconds: entry.timeMilliseconds, origin: origin)
        let (result, effects) = machine.apply(command, context)
        return (.workflow(result), effects)
    }

    func snapshot() -> [UInt8] { machine.snapshot() }

    func restore(_ snapshot: [UInt8]) throws(MalformedBytes) {
        machine = try WorkflowMachine(snapshot: snapshot, limits: limits)
        mustReplaceStored = true
        prepare()
    }

    var preparation: @Sendable (StoredState) throws(ImpossibleContent) -> PreparedState {
        { [group, limits] stored throws(ImpossibleContent) in
            let content = try MachineContent(stored, group: group)
            return PreparedState(
                content: .workflows(try WorkflowMachine(content, group: group, limits: limits)))
        }
    }

    func take(_ prepared: PreparedState) {
        guard case .workflows(let machine) = prepared.content else { invariantBroken("it was prepared for this group") }
        self.machine = machine
        mustReplaceStored = false
        prepare()
    }

    private func prepare() {
        machine.ignoresEpochs = plantedBugs.contains(.ignoresEpochs)
        machine.trackChanges()
    }
}
