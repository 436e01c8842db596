/// What comes in during one turn and is gone through in the next, in two arrays whose room serves again and again.
@frozen
public struct DoubleBuffer<Element> {
    @usableFromInline var filled: [Element] = []
    @usableFromInline var spare: [Element] = []

    /// Room for more elements than that is not kept.
    @usableFromInline static var keptCapacityMax: Int { 1024 }

    @inlinable
    public init() {}

    @inlinable public var isEmpty: Bool { filled.isEmpty }

    @inlinable
    public mutating func append(_ element: Element) { filled.append(element) }

    @inlinable
    public mutating func append(contentsOf elements: [Element]) { filled.append(contentsOf: elements) }

    /// Everything that was appended since the last time, in order. Give it back when it has been gone through.
    @inlinable
    public mutating func take() -> [Element] {
        var taken: [Element] = []
        swap(&taken, &filled)
        swap(&filled, &spare)
        return taken
    }

    @inlinable
    public mutating func giveBack(_ taken: inout [Element]) {
        guard taken.capacity <= Self.keptCapacityMax else {
            taken = []
            return
        }
        taken.removeAll(keepingCapacity: true)
        swap(&taken, &spare)
    }
}

extension DoubleBuffer: Sendable where Element: Sendable {}
