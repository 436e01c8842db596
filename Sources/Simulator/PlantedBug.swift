@_spi(Planted) import Node
import Prelude
@_spi(Planted) import Raft

/// A known mistake, and the kind of weather in which it shows. The hunter is hunted with these: each has to be caught
/// within a bounded number of seeds.
@_spi(Planted)
public struct PlantedBug: Sendable {
    public var name: String
    /// Where the hunt begins by default: a little before a seed that is known to catch it, to be quick.
    public var firstSeed: UInt64
    public var seedCount: UInt64
    public var faultSeconds: UInt64
    private var weights: [Fault.Kind: Int]
    private var plant: @Sendable (inout SimulationOptions) -> Void

    public func options(seed: UInt64) -> SimulationOptions {
        var options = SimulationOptions(seed: seed)
        options.faultSeconds = faultSeconds
        var random = SeededRandom(seed: seed ^ 0xB06)
        var profile = FaultProfile(drawnFrom: &random)
        profile.weights = weights
        profile.tickMilliseconds = 50
        profile.promptTurnsPerMille = 0
        profile.pauseMillisecondsMean = random.drawLogarithmic(300...3_000)
        profile.thinkMilliseconds = random.drawLogarithmic(20...200)
        profile.snapshotEntryCount = random.drawLogarithmic(16...100)
        profile.keptEntryCount = random.draw(0...profile.snapshotEntryCount / 4)
        options.profile = profile
        plant(&options)
        return options
    }

    private static func bug(
        _ name: String, from: UInt64 = 1, seeds: UInt64 = 60, seconds: UInt64 = 40, _ weights: [Fault.Kind: Int],
        _ plant: @escaping @Sendable (inout SimulationOptions) -> Void
    ) -> PlantedBug {
        PlantedBug(name: name, firstSeed: from, seedCount: seeds, faultSeconds: seconds, weights: weights, plant: plant)
    }

    private static let partitions: [Fault.Kind: Int] = [
        .isolate: 4, .split: 3, .oneWay: 2, .partial: 3, .transferLeader: 3, .pause: 2,
    ]
    private static let crashes: [Fault.Kind: Int] = [
        .kill: 3, .powerLoss: 3, .allLosePower: 1, .isolate: 2, .transferLeader: 2, .slowLink: 1,
    ]
    private static let elections: [Fault.Kind: Int] = [
        .kill: 6, .allLosePower: 4, .transferLeader: 4, .slowLink: 2,
    ]
    private static let changes: [Fault.Kind: Int] = [
        .addNode: 4, .removeNode: 4, .kill: 2, .isolate: 2, .transferLeader: 2, .powerLoss: 1,
    ]

    public static let all: [PlantedBug] = [
        // The core.
        bug("core commits entries of older terms by count", elections) { $0.coreBugs = .commitsOlderTermByCount },
        bug("core keeps progress on leadership", from: 3, seeds: 100, [.depose: 8, .isolate: 1, .partial: 1]) {
            $0.coreBugs = .keepsProgressOnLeadership
            $0.nodeCount = 5
        },
        bug("core forgets its vote on restart", from: 40, seeds: 200, elections) {
            $0.coreBugs = .forgetsVoteOnRestart
        },
        bug("core answers reads without a quorum", from: 8, partitions) { $0.coreBugs = .readsWithoutQuorum },
        bug("core votes for stale logs", partitions) { $0.coreBugs = .votesForStaleLogs },
        bug("core takes appends of deposed leaders", from: 11, partitions) { $0.coreBugs = .ignoresTermOnAppend },
        bug("core acknowledges before the write", crashes) { $0.coreBugs = .acknowledgesBeforeDurable },
        bug("core restores snapshots without their configuration", changes) {
            $0.coreBugs = .snapshotSkipsConfiguration
        },
        // The node and the machines on it.
        bug("node answers reads without a barrier", partitions) { $0.nodeBugs = .readsWithoutBarrier },
        bug("node forgets its hard state", from: 24, crashes) { $0.nodeBugs = .forgetsHardState },
        bug("node ids are used again", changes) { $0.nodeBugs = .reusesNodeIDs },
        bug("apply reads the clock", [.kill: 1]) { $0.nodeBugs = .readsClockInApply },
        bug("node responds before the write", crashes) { $0.nodeBugs = .respondsBeforeWritten },
        bug("node takes snapshots without restoring them", [.isolate: 5, .kill: 1]) {
            $0.nodeBugs = .skipsRestoringSnapshots
        },
        bug("earlier owners of a run may record", from: 4, [.pause: 5, .isolate: 3, .kill: 1]) {
            $0.nodeBugs = .ignoresEpochs
        },
        bug("repeated proposals are applied twice", partitions) { $0.nodeBugs = .appliesRepetitions },
        // The disk.
        bug("the disk lies about what is durable", [.powerLoss: 2, .allLosePower: 3]) { $0.bugs = .lyingDisk },
    ]
}
