import DequeModule
import Prelude

/// Which proposals of one life of one node have been applied: a bitmap that slides along with the sequence
/// numbers. Bounded, because sequences may be missing for ever: proposals get lost with the leader that had them.
struct OriginWindow: Equatable {
    enum Admission: Equatable { case new, seen, tooOld }

    private(set) var incarnation: Incarnation
    /// A multiple of 64; the bitmap begins above it.
    private var floor: UInt64 = 0
    /// Up to here sequences left the window without having been seen.
    private var lostThrough: UInt64 = 0
    /// Bit `n` of word `w` stands for the sequence `floor + 64 w + n + 1`.
    private var words: Deque<UInt64> = []

    init(incarnation: Incarnation) { self.incarnation = incarnation }

    /// Marks `sequence` as seen and tells what it was before. `wordCountMax` is at least 1.
    mutating func admit(_ sequence: UInt64, wordCountMax: Int) -> Admission {
        guard sequence > floor else { return sequence > lostThrough ? .seen : .tooOld }
        let distance = sequence - 1 - floor
        if distance / 64 >= UInt64(wordCountMax) { slide(by: distance / 64 - UInt64(wordCountMax) + 1) }
        let bit = sequence - 1 - floor
        let word = Int(bit / 64)
        while words.count <= word { words.append(0) }
        let mask: UInt64 = 1 << (bit % 64)
        guard words[word] & mask == 0 else { return .seen }
        words[word] |= mask
        while words.first == .max {
            words.removeFirst()
            floor += 64
        }
        return .new
    }

    private mutating func slide(by wordCount: UInt64) {
        let present = Int(min(wordCount, UInt64(words.count)))
        let isLosing = wordCount > UInt64(present) || words.prefix(present).contains { $0 != .max }
        words.removeFirst(present)
        floor += wordCount * 64
        if isLosing { lostThrough = floor }
    }

    func write(to writer: inout ByteWriter) {
        writer.append(varint: incarnation.rawValue)
        writer.append(varint: floor / 64)
        writer.append(varint: lostThrough / 64)
        writer.append(varint: UInt64(words.count))
        for word in words { writer.append(fixed: word) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        incarnation = Incarnation(try reader.varint())
        let start = reader.offset
        let floorWords = try reader.varint()
        let lostWords = try reader.varint()
        let count = try reader.count(minimumByteCount: 8)
        let last = UInt64.max / 64
        guard lostWords <= floorWords, floorWords <= last, UInt64(count) <= last - floorWords + 1 else {
            throw MalformedBytes(offset: start, expected: "the bounds of a window")
        }
        floor = floorWords * 64
        lostThrough = lostWords * 64
        for _ in 0..<count { words.append(try reader.fixed64()) }
        guard words.first != .max, words.last != 0 else {
            throw MalformedBytes(offset: start, expected: "a window without full words before or empty words after")
        }
    }
}
