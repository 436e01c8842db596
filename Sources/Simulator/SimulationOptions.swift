@_spi(Planted) import Node
import Prelude
@_spi(Planted) import Raft
import Workflow

/// What one run of the simulation does, besides what its seed decides.
public struct SimulationOptions: Sendable {
    public var seed: UInt64
    /// Nodes of the first cluster; one to three more may join.
    public var nodeCount = 3
    /// Virtual time with faults. Before it the cluster forms, after it it has to recover.
    public var faultSeconds: UInt64 = 60
    /// Virtual time that the cluster gets to recover once all faults have ended.
    public var recoverySeconds: UInt64 = 120
    public var clientCount = 3
    /// Whether clients read and write variables besides.
    public var usesVariables = true
    /// What clients start, each as likely as the others.
    public var workflows = SimulatedWorkflow.all
    /// Registers workflows besides those of `SimulatedWorkflow.all`, on every node.
    public var register: (@Sendable (inout WorkflowRegistry, SideEffects) -> Void)?
    /// What is wrong with the outside world at the end, when all faults and all workflows have ended; nil: nothing.
    public var endProblem: (@Sendable (SideEffects) -> String?)?
    /// Faults to leave out, by their place in the schedule: what `--minimise` shrinks by.
    public var leftOut: Set<Int> = []
    /// Gets a line for every event.
    public var traceSink: (@Sendable (String) -> Void)?
    /// Replaces the weights of the classes of faults that the seed draws; those that are left out have none.
    public var weights: [Fault.Kind: Int]?
    /// The members change all the time, and all who are to stay have to be voters or learners of every group at the end.
    public var isStorm = false
    /// Nil: as the seed draws it.
    public var profile: FaultProfile?
    @_spi(Planted) public var bugs: SimulatedBugs = []
    @_spi(Planted) public var nodeBugs: NodePlantedBugs = []
    @_spi(Planted) public var coreBugs: PlantedBugs = []

    public init(seed: UInt64) { self.seed = seed }
}

/// Mistakes of the machines below the nodes.
@_spi(Planted)
public struct SimulatedBugs: OptionSet, Sendable, Hashable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The disk says that data is durable when it is not.
    public static let lyingDisk = SimulatedBugs(rawValue: 1 << 0)
}

/// How rough the world is. Every class of faults gets another weight from each seed, some none at all, so that each meets
/// the others in every proportion ("swarm testing").
public struct FaultProfile: Sendable {
    /// How often each class of faults is drawn, against the others. 0: never.
    public var weights: [Fault.Kind: Int] = [:]
    /// Between one fault and the next, on average.
    public var pauseMillisecondsMean: UInt64 = 2_000
    public var latency: ClosedRange<UInt64> = 50_000...2_000_000
    public var lossPerMille = 0
    public var chunkPerMille = 100
    public var workLatency: ClosedRange<UInt64> = 50_000...400_000
    public var driftPartsPerMillionMax = 0
    public var snapshotEntryCount: UInt64 = 200
    public var keptEntryCount: UInt64 = 50
    /// Between the operations of one client, on average: of those on workflows, and of those on variables.
    public var thinkMilliseconds: UInt64 = 200
    /// Of Raft. A heartbeat takes two of them, an election timeout 600 ms, and six at least.
    public var tickMilliseconds: UInt64 = 200
    /// Of the turns of a loop, how many in a thousand follow at once on the event that asks for them. The others come a
    /// little later, with whatever arrives until then.
    public var promptTurnsPerMille = 1_000
    /// Between comparisons of the states of all nodes.
    public var compareSeconds: UInt64 = 15

    public init() {}

    /// Nothing goes wrong.
    public static let calm = FaultProfile()

    init(drawnFrom random: inout SeededRandom) {
        for kind in Fault.Kind.drawn {
            weights[kind] = random.chance(perMille: 350) ? 0 : random.draw(1...10)
        }
        pauseMillisecondsMean = random.drawLogarithmic(300...8_000)
        let fastest = random.drawLogarithmic(20_000...5_000_000)
        latency = fastest...(fastest * random.draw(1...8))
        lossPerMille = random.chance(perMille: 500) ? 0 : random.draw(1...50)
        chunkPerMille = random.draw(0...500)
        let write = random.drawLogarithmic(30_000...10_000_000)
        workLatency = write...(write * random.draw(1...10))
        driftPartsPerMillionMax = random.chance(perMille: 500) ? 0 : random.draw(10...50_000)
        snapshotEntryCount = random.drawLogarithmic(16...400)
        keptEntryCount = random.draw(0...snapshotEntryCount - 1)
        // From a heavy load to one that lets much time pass.
        thinkMilliseconds = random.drawLogarithmic(20...8_000)
        // From a copy: what is drawn after the profile stays what it was before these were.
        var further = random
        tickMilliseconds = further.pick([50, 100, 100, 200]) ?? 50
        promptTurnsPerMille = further.pick([0, 500, 900, 1_000]) ?? 0
        compareSeconds = further.drawLogarithmic(3...30)
        weights[.flipByte] = further.chance(perMille: 500) ? 0 : further.draw(1...6)
    }
}

/// One fault, planned before the run begins, so that leaving some out does not change the others.
public struct Fault: Sendable, CustomStringConvertible {
    public enum Kind: String, Sendable, CaseIterable {
        /// The process dies and is started again.
        case kill
        /// The machine loses power: what was not synchronized is lost in part.
        case powerLoss
        /// A node leaves in order and is started again.
        case shutDown
        /// A process is stopped for a while and goes on.
        case pause
        /// One node is cut off from all others.
        case isolate
        /// The nodes fall into two halves.
        case split
        /// Nothing passes from one node to another; the other way is open.
        case oneWay
        /// Two nodes do not see each other, and both see the others.
        case partial
        case slowLink
        /// A connection breaks.
        case reset
        case slowDisk
        case diskFull
        /// Operations of a disk fail, writes in part.
        case diskError
        case transferLeader
        case addNode
        case removeNode
        case clockJump
        /// All machines lose power.
        case allLosePower
        /// A byte that was durable becomes another one; if the node refuses to start, another machine takes its place.
        case flipByte
        /// For a while whoever begins to lead is cut off within a round trip.
        case depose
        /// In storms only: a machine is lost for good, and another one takes its place.
        case replaceNode
        /// In storms only: a node is started again at another address.
        case moveNode

        /// What any seed may draw. Others would change the course of every seed that is written down somewhere.
        static let drawn = allCases.filter { ![.flipByte, .depose, .replaceNode, .moveNode].contains($0) }
    }

    public var kind: Kind
    /// After the beginning of the faults.
    public var at: Nanoseconds
    /// How long it lasts, where that means something.
    public var duration: Nanoseconds
    /// Chooses whom it meets, and how.
    public var choice: UInt64

    public var description: String {
        "\(at / 1_000_000) ms \(kind.rawValue) for \(duration / 1_000_000) ms, choice \(choice % 1_000)"
    }

    static func schedule(
        _ profile: FaultProfile, seconds: UInt64, _ random: inout SeededRandom
    ) -> [Fault] {
        let kinds = Kind.allCases.flatMap { [Kind](repeating: $0, count: profile.weights[$0] ?? 0) }
        guard !kinds.isEmpty else { return [] }
        var faults: [Fault] = []
        var at: Nanoseconds = 0
        while true {
            at += .milliseconds(random.draw(1...2 * profile.pauseMillisecondsMean))
            guard at < .seconds(seconds), let kind = random.pick(kinds) else { return faults }
            faults.append(
                Fault(
                    kind: kind, at: at, duration: .milliseconds(random.drawLogarithmic(20...15_000)),
                    choice: random.next()))
        }
    }
}
