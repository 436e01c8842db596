import CNGHTTP2
import Glibc

/// Header fields that never change, laid out once for nghttp2, which neither copies nor frees them.
struct StaticHeaderFields: @unchecked Sendable {
    // Sendable: written once here, read-only afterwards.
    let start: UnsafePointer<nghttp2_nv>
    let count: Int

    /// Lives as long as the process: meant for static constants.
    init(_ fields: [(name: StaticString, value: StaticString)]) {
        let table = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: fields.count)
        for (place, field) in fields.enumerated() {
            (table + place).initialize(to: nghttp2_nv(constant: field.name, field.value))
        }
        start = UnsafePointer(table)
        count = fields.count
    }
}

extension nghttp2_nv {
    init(constant name: StaticString, _ value: StaticString) {
        self.init(
            name: UnsafeMutablePointer(mutating: name.utf8Start),
            value: UnsafeMutablePointer(mutating: value.utf8Start),
            namelen: name.utf8CodeUnitCount, valuelen: value.utf8CodeUnitCount,
            flags: UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue))
    }
}

/// Header fields of one message, gathered to be submitted once.
struct HeaderFields {
    /// Those without pointers take their names and values from `text`, in order.
    private var fields: [nghttp2_nv] = []
    private var text: [UInt8] = []

    /// What HPACK may compress; others are marked as never to be indexed, because each is used once.
    enum Indexing { case indexed, never }

    mutating func add(_ constant: StaticHeaderFields) {
        for place in 0..<constant.count { fields.append(constant.start[place]) }
    }

    mutating func add(_ name: StaticString, _ value: some Collection<UInt8>, _ indexing: Indexing = .indexed) {
        add(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value, indexing)
    }

    mutating func add(_ name: some Collection<UInt8>, _ value: some Collection<UInt8>, _ indexing: Indexing = .indexed)
    {
        text.append(contentsOf: name)
        text.append(contentsOf: value)
        let flags = indexing == .never ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE
        fields.append(
            nghttp2_nv(
                name: nil, value: nil, namelen: name.count, valuelen: value.count, flags: UInt8(flags.rawValue)))
    }

    mutating func add(_ metadata: Metadata) {
        for entry in metadata.entries {
            switch entry.value {
            case .text(let text): add(entry.name.utf8, text.utf8)
            case .bytes(let bytes): add(entry.name.utf8, Base64.encode(bytes))
            }
        }
    }

    /// The fields are valid during `body`: nghttp2 copies them when they are submitted.
    func withFields<Result>(_ body: (UnsafePointer<nghttp2_nv>, Int) -> Result) -> Result {
        text.withUnsafeBufferPointer { text in
            withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: fields.count + 1) { table in
                var next = UnsafeMutablePointer(mutating: text.baseAddress)
                for (place, field) in fields.enumerated() {
                    table[place] = field
                    guard field.name == nil else { continue }
                    table[place].name = next
                    next = next.map { $0 + field.namelen }
                    table[place].value = next
                    next = next.map { $0 + field.valuelen }
                }
                return body(UnsafePointer(table.baseAddress!), fields.count)
            }
        }
    }
}

/// The bytes of a received name or value compared with a constant.
@inline(__always)
func == (bytes: UnsafeRawBufferPointer, constant: StaticString) -> Bool {
    guard bytes.count == constant.utf8CodeUnitCount, let start = bytes.baseAddress else { return false }
    return memcmp(start, constant.utf8Start, bytes.count) == 0
}
