import DequeModule
import Prelude

/// Reads that wait on the leader (Raft dissertation §6.4).
///
/// Each read gets a number. Every heartbeat carries the number of the newest read, the response echoes it, and so
/// tells that the follower still knew this leader after all reads up to that number had come in: the reads up to the
/// number that a quorum has echoed may be answered with the commit index of their arrival.
struct PendingReads: Sendable {
    struct Read: Sendable {
        /// Who asked; none or the leader itself for a local read.
        var from: NodeID
        var context: [UInt8]
        /// The commit index when the read came in.
        var index: LogIndex
    }

    /// Came before the leader had committed an entry of its term, and so cannot have an index yet.
    private(set) var postponed: [Read] = []
    private var confirming: Deque<Read> = []
    private var firstNumber: UInt64 = 1
    private var echoed: [NodeID: UInt64] = [:]

    var count: Int { postponed.count + confirming.count }

    private var lastNumber: UInt64 { firstNumber + UInt64(confirming.count) - 1 }

    mutating func postpone(_ read: Read) { postponed.append(read) }

    mutating func takePostponed() -> [Read] {
        defer { postponed = [] }
        return postponed
    }

    mutating func add(_ read: Read) { confirming.append(read) }

    /// For heartbeats; empty while no read waits.
    var heartbeatContext: [UInt8] {
        if confirming.isEmpty { return [] }
        var writer = ByteWriter(capacity: 8)
        writer.append(fixed: lastNumber)
        return writer.bytes
    }

    /// Takes note of an echo and returns the reads that a quorum confirms with it, in order of their arrival.
    mutating func confirm(
        from node: NodeID, context: [UInt8], leader: NodeID, quorum: JointQuorum
    ) -> [Read] {
        var reader = ByteReader(context)
        guard let number = try? reader.fixed64(), number >= firstNumber, number <= lastNumber else { return [] }
        echoed[node] = max(echoed[node] ?? 0, number)
        let confirmed = quorum.committedIndex { id in
            LogIndex(id == leader ? lastNumber : echoed[id] ?? 0)
        }
        guard confirmed.rawValue >= firstNumber else { return [] }
        let count = Int(min(confirmed.rawValue, lastNumber) - firstNumber + 1)
        defer {
            confirming.removeFirst(count)
            firstNumber += UInt64(count)
        }
        return Array(confirming.prefix(count))
    }
}
