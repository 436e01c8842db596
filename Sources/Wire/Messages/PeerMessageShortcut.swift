import Prelude
import Raft

// Nodes exchange more messages of Raft than of anything else, and most are of a few bytes: for them the way over the
// generated structs costs several times what the message does. What follows reads and writes the same bytes directly. It
// knows the plain messages only, those without a snapshot, of nodes whose disks are in order: for all else, and for
// whatever is wrong, it says nil, and the general way decides. A test holds that both ways agree.

extension RaftEnvelope {
    /// The bytes of an envelope from `message.from` to `peer` that carries the message; nil when it has a snapshot.
    package static func encoded(carrying peerMessage: PeerMessage, to peer: NodeID) -> [UInt8]? {
        let message = peerMessage.message
        guard message.snapshot == nil, peerMessage.snapshotPart == 0, peerMessage.snapshotPartCount == 0 else {
            return nil
        }
        var inner = 0
        PlainFields.each(of: peerMessage) { inner += ShortcutWriter.byteCount($1) }
        for entry in message.entries {
            let count = ShortcutWriter.byteCount(entry)
            inner += 1 + ShortcutWriter.varintByteCount(UInt64(count)) + count
        }
        inner += ShortcutWriter.byteCount(message.context)
        // A message of defaults only, which nobody sends, would be left out.
        guard inner > 0 else { return nil }
        let total =
            1 + ShortcutWriter.varintByteCount(UInt64(inner)) + inner
            + ShortcutWriter.byteCount(message.from.rawValue) + ShortcutWriter.byteCount(peer.rawValue)
        return Array(unsafeUninitializedCapacity: total) { buffer, count in
            guard let start = buffer.baseAddress else { return }
            var writer = ShortcutWriter(start)
            writer.byte(0x0A)
            writer.varint(UInt64(inner))
            writer.write(peerMessage)
            writer.field(0x30, message.from.rawValue)
            writer.field(0x38, peer.rawValue)
            count = writer.next - start
            invariant(count == total, "a message is as long as it was measured")
        }
    }

    /// What `encoded(carrying:to:)` wrote; nil when the bytes are not certainly that.
    package static func carried(by bytes: UnsafeRawBufferPointer) -> (message: PeerMessage, to: NodeID)? {
        var reader = ShortcutReader(bytes)
        guard let tag = reader.byte(), tag == 0x0A, let inner = reader.bytes() else { return nil }
        var from: UInt64 = 0
        var to: UInt64 = 0
        while !reader.isAtEnd {
            switch reader.byte() {
            case 0x30:
                guard let value = reader.identifier() else { return nil }
                from = value
            case 0x38:
                guard let value = reader.identifier() else { return nil }
                to = value
            default: return nil
            }
        }
        guard let message = ShortcutReader.message(inner), message.message.from.rawValue == from else { return nil }
        return (message, NodeID(rawValue: to))
    }
}

/// The fields that are numbers, with their tags, in the order of their tags up to the entries and after them.
private enum PlainFields {
    static func beforeEntries(of value: PeerMessage, _ body: (UInt8, UInt64) -> Void) {
        body(0x08, value.group.rawValue)
        body(0x10, UInt64(value.message.kind.rawValue))
        body(0x18, value.message.to.rawValue)
        body(0x20, value.message.from.rawValue)
        body(0x28, value.message.term.rawValue)
        body(0x30, value.message.logTerm.rawValue)
        body(0x38, value.message.index.rawValue)
    }

    static func afterEntries(of value: PeerMessage, _ body: (UInt8, UInt64) -> Void) {
        body(0x48, value.message.commit.rawValue)
        body(0x50, value.message.vote.rawValue)
        body(0x60, value.message.reject ? 1 : 0)
        body(0x68, value.message.rejectHint.rawValue)
    }

    static func each(of value: PeerMessage, _ body: (UInt8, UInt64) -> Void) {
        beforeEntries(of: value, body)
        afterEntries(of: value, body)
    }
}

/// Writes protobuf fields; those that have their defaults are left out.
private struct ShortcutWriter {
    private(set) var next: UnsafeMutablePointer<UInt8>

    init(_ start: UnsafeMutablePointer<UInt8>) { next = start }

    static func varintByteCount(_ value: UInt64) -> Int { (70 - (value | 1).leadingZeroBitCount) / 7 }

    /// With its tag of one byte.
    static func byteCount(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varintByteCount(value) }

    static func byteCount(_ bytes: [UInt8]) -> Int {
        bytes.isEmpty ? 0 : 1 + varintByteCount(UInt64(bytes.count)) + bytes.count
    }

    /// Without its tag and length.
    static func byteCount(_ entry: Entry) -> Int {
        byteCount(entry.term.rawValue) + byteCount(entry.index.rawValue) + byteCount(UInt64(entry.kind.rawValue))
            + byteCount(entry.data)
    }

    mutating func byte(_ value: UInt8) {
        next.initialize(to: value)
        next += 1
    }

    mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            byte(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        byte(UInt8(rest))
    }

    mutating func field(_ tag: UInt8, _ value: UInt64) {
        if value == 0 { return }
        byte(tag)
        varint(value)
    }

    mutating func field(_ tag: UInt8, _ value: [UInt8]) {
        if value.isEmpty { return }
        byte(tag)
        varint(UInt64(value.count))
        value.withUnsafeBufferPointer { bytes in
            if let base = bytes.baseAddress { next.initialize(from: base, count: bytes.count) }
        }
        next += value.count
    }

    mutating func write(_ value: PeerMessage) {
        PlainFields.beforeEntries(of: value) { field($0, $1) }
        for entry in value.message.entries {
            byte(0x42)
            varint(UInt64(Self.byteCount(entry)))
            field(0x08, entry.term.rawValue)
            field(0x10, entry.index.rawValue)
            field(0x18, UInt64(entry.kind.rawValue))
            field(0x22, entry.data)
        }
        PlainFields.afterEntries(of: value) { field($0, $1) }
        field(0x72, value.message.context)
    }
}

/// Reads protobuf fields; nil at anything that is not plain.
private struct ShortcutReader {
    private let all: UnsafeRawBufferPointer
    private var place = 0
    /// Fields of one message or entry, beyond which the general way looks at its cost.
    private static let fieldCountMax = 64

    init(_ bytes: UnsafeRawBufferPointer) { all = bytes }

    var isAtEnd: Bool { place == all.count }

    mutating func byte() -> UInt8? {
        guard place < all.count else { return nil }
        defer { place += 1 }
        return all[place]
    }

    mutating func varint() -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let next = byte() {
            // Nine bytes hold every number that an identifier may have.
            guard shift < 63 else { return nil }
            value |= UInt64(next & 0x7F) << shift
            if next < 0x80 { return value }
            shift += 7
        }
        return nil
    }

    /// Nine bytes of seven bits: never above 2^63 − 1, the largest identifier.
    mutating func identifier() -> UInt64? { varint() }

    mutating func bytes() -> UnsafeRawBufferPointer? {
        guard let count = varint(), count <= UInt64(all.count - place) else { return nil }
        defer { place += Int(count) }
        return UnsafeRawBufferPointer(rebasing: all[place..<place + Int(count)])
    }

    private mutating func small<Code: RawRepresentable<UInt8>>(_ type: Code.Type) -> Code? {
        varint().flatMap { UInt8(exactly: $0) }.flatMap { Code(rawValue: $0) }
    }

    static func message(_ bytes: UnsafeRawBufferPointer) -> PeerMessage? {
        var reader = ShortcutReader(bytes)
        var value = PeerMessage(group: .directory, message: Message(kind: .hup))
        var fieldCount = 0
        while let tag = reader.byte() {
            if tag == 0x42 {
                guard let bytes = reader.bytes(), let entry = entry(bytes) else { return nil }
                value.message.entries.append(entry)
                continue
            }
            fieldCount += 1
            guard fieldCount <= fieldCountMax, reader.read(tag, into: &value) else { return nil }
        }
        return value
    }

    private mutating func read(_ tag: UInt8, into value: inout PeerMessage) -> Bool {
        if tag == 0x10 {
            guard let kind = small(MessageKind.self) else { return false }
            value.message.kind = kind
            return true
        }
        if tag == 0x72 {
            guard let bytes = bytes() else { return false }
            value.message.context = Array(bytes)
            return true
        }
        guard let number = identifier() else { return false }
        switch tag {
        case 0x08: value.group = GroupID(rawValue: number)
        case 0x18: value.message.to = NodeID(rawValue: number)
        case 0x20: value.message.from = NodeID(rawValue: number)
        case 0x28: value.message.term = Term(rawValue: number)
        case 0x30: value.message.logTerm = Term(rawValue: number)
        case 0x38: value.message.index = LogIndex(rawValue: number)
        case 0x48: value.message.commit = LogIndex(rawValue: number)
        case 0x50: value.message.vote = NodeID(rawValue: number)
        case 0x60: value.message.reject = number != 0
        case 0x68: value.message.rejectHint = LogIndex(rawValue: number)
        default: return false
        }
        return true
    }

    private static func entry(_ bytes: UnsafeRawBufferPointer) -> Entry? {
        // The shortest that a log has: a term and an index. Shorter ones come at the general way's price.
        guard bytes.count >= 4 else { return nil }
        var reader = ShortcutReader(bytes)
        var entry = Entry()
        var fieldCount = 0
        while let tag = reader.byte() {
            fieldCount += 1
            guard fieldCount <= fieldCountMax else { return nil }
            switch tag {
            case 0x08:
                guard let number = reader.identifier() else { return nil }
                entry.term = Term(rawValue: number)
            case 0x10:
                guard let number = reader.identifier() else { return nil }
                entry.index = LogIndex(rawValue: number)
            case 0x18:
                guard let kind = reader.small(EntryKind.self) else { return nil }
                entry.kind = kind
            case 0x22:
                guard let data = reader.bytes() else { return nil }
                entry.data = Array(data)
            default: return nil
            }
        }
        return entry
    }
}
