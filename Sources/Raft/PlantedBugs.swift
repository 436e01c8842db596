/// Classic mistakes that a core can be told to make, so that tests can show that they would be found. For tests only:
/// the interface is hidden behind `@_spi(Planted)`, and nothing else sets it.
@_spi(Planted)
public struct PlantedBugs: OptionSet, Sendable, Hashable {
    public let rawValue: UInt16

    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// A restarted node may vote twice in one term.
    public static let forgetsVoteOnRestart = PlantedBugs(rawValue: 1 << 0)
    /// An entry of an older term commits as soon as a quorum has it (against Raft §5.4.2).
    public static let commitsOlderTermByCount = PlantedBugs(rawValue: 1 << 1)
    /// A new leader believes what it knew of its followers when it led before.
    public static let keepsProgressOnLeadership = PlantedBugs(rawValue: 1 << 2)
    /// A leader answers reads without finding out whether it still is one.
    public static let readsWithoutQuorum = PlantedBugs(rawValue: 1 << 3)
    /// Votes go to candidates whose log is behind (against Raft §5.4.1).
    public static let votesForStaleLogs = PlantedBugs(rawValue: 1 << 4)
    /// Appends of a deposed leader are taken.
    public static let ignoresTermOnAppend = PlantedBugs(rawValue: 1 << 5)
    /// Entries are acknowledged before they are durable.
    public static let acknowledgesBeforeDurable = PlantedBugs(rawValue: 1 << 6)
    /// A restored snapshot leaves the configuration as it was.
    public static let snapshotSkipsConfiguration = PlantedBugs(rawValue: 1 << 7)
}
