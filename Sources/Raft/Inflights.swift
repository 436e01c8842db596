import DequeModule
import Prelude

/// The append messages sent to one follower and not yet acknowledged, bounded by count and by bytes of entry data.
package struct Inflights: Sendable {
    private struct Sent {
        var lastIndex: LogIndex
        var byteCount: UInt64
    }

    private let countMax: Int
    private let byteCountMax: UInt64
    private var sent: Deque<Sent> = []
    private var byteCount: UInt64 = 0

    package init(countMax: Int, byteCountMax: UInt64) {
        self.countMax = countMax
        self.byteCountMax = byteCountMax
        noteFullness()
    }

    package var count: Int { sent.count }
    package private(set) var isFull = false

    /// Notes a message whose last entry is `lastIndex`. Indexes never go back. The bytes may go beyond the bound, so
    /// that one large message can always be sent.
    package mutating func add(_ lastIndex: LogIndex, byteCount: UInt64) {
        invariant(!isFull, "no append message is sent beyond the in-flight bound")
        sent.append(Sent(lastIndex: lastIndex, byteCount: byteCount))
        self.byteCount += byteCount
        noteFullness()
    }

    private mutating func noteFullness() { isFull = sent.count >= countMax || byteCount >= byteCountMax }

    /// Forgets all messages up to the one whose last entry is `index` or below.
    package mutating func free(upTo index: LogIndex) {
        while let first = sent.first, first.lastIndex <= index {
            byteCount -= first.byteCount
            sent.removeFirst()
        }
        noteFullness()
    }

    package mutating func removeAll() {
        sent.removeAll(keepingCapacity: true)
        byteCount = 0
        noteFullness()
    }
}
