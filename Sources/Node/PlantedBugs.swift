/// Mistakes that a node can be told to make, so that tests can show that they would be found. For tests only: the
/// interface is hidden behind `@_spi(Planted)`, and nothing else sets it.
@_spi(Planted)
public struct NodePlantedBugs: OptionSet, Sendable, Hashable {
    public let rawValue: UInt16

    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Reads are answered from whatever this node knows.
    public static let readsWithoutBarrier = NodePlantedBugs(rawValue: 1 << 0)
    /// What the log says of term and vote is not believed after a restart.
    public static let forgetsHardState = NodePlantedBugs(rawValue: 1 << 1)
    /// The id of a removed node is given to the next one.
    public static let reusesNodeIDs = NodePlantedBugs(rawValue: 1 << 2)
    /// Commands are applied with the clock of the node that applies them.
    public static let readsClockInApply = NodePlantedBugs(rawValue: 1 << 3)
    /// Responses that have to wait for the disk leave at once.
    public static let respondsBeforeWritten = NodePlantedBugs(rawValue: 1 << 4)
    /// A snapshot that a leader sent is acknowledged, and the state stays as it was.
    public static let skipsRestoringSnapshots = NodePlantedBugs(rawValue: 1 << 5)
    /// A run's earlier owners may record steps.
    public static let ignoresEpochs = NodePlantedBugs(rawValue: 1 << 6)
    /// A proposal that was sent twice is applied twice.
    public static let appliesRepetitions = NodePlantedBugs(rawValue: 1 << 7)
}
