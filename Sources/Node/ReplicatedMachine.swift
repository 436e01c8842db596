import Prelude
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
}

/// Groups from 1: workflows and variables.
final class WorkflowGroupMachine: ReplicatedMachine {
    private(set) var machine: WorkflowMachine
    private let group: GroupID
    private let limits: WorkflowLimits
    private let plantedBugs: NodePlantedBugs

    init(group: GroupID, limits: WorkflowLimits, plantedBugs: NodePlantedBugs = []) {
        self.group = group
        self.limits = limits
        self.plantedBugs = plantedBugs
        machine = WorkflowMachine(group: group, limits: limits)
        machine.ignoresEpochs = plantedBugs.contains(.ignoresEpochs)
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
        machine.ignoresEpochs = plantedBugs.contains(.ignoresEpochs)
    }
}
