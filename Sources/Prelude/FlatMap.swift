/// A dictionary of few keys as an array, ordered by them: for what a node asks at every turn about its groups and peers.
/// Finding a key takes time in proportion to their number, and for fewer than about twenty less than hashing it.
@frozen
public struct FlatMap<Key: Comparable, Value> {
    public typealias Element = (key: Key, value: Value)

    @usableFromInline var elements: [Element] = []

    @inlinable
    public init() {}

    /// Precondition: no key is there twice.
    @inlinable
    public init(_ elements: some Sequence<Element>) {
        self.elements = elements.sorted { $0.key < $1.key }
    }

    @inlinable
    func place(of key: Key) -> (place: Int, isThere: Bool) {
        var place = 0
        while place < elements.count {
            if elements[place].key == key { return (place, true) }
            if key < elements[place].key { break }
            place += 1
        }
        return (place, false)
    }

    @inlinable
    public subscript(key: Key) -> Value? {
        get {
            for element in elements where element.key == key { return element.value }
            return nil
        }
        set {
            let (place, isThere) = place(of: key)
            switch (newValue, isThere) {
            case (let value?, true): elements[place].value = value
            case (let value?, false): elements.insert((key, value), at: place)
            case (nil, true): elements.remove(at: place)
            case (nil, false): break
            }
        }
    }

    @inlinable
    public subscript(key: Key, default fallback: @autoclosure () -> Value) -> Value {
        get { self[key] ?? fallback() }
        _modify {
            let (place, isThere) = place(of: key)
            if !isThere { elements.insert((key, fallback()), at: place) }
            yield &elements[place].value
        }
    }

    /// Returns the value that was there.
    @inlinable
    public mutating func updateValue(_ value: Value, forKey key: Key) -> Value? {
        let (place, isThere) = place(of: key)
        guard isThere else {
            elements.insert((key, value), at: place)
            return nil
        }
        let before = elements[place].value
        elements[place].value = value
        return before
    }

    @inlinable
    public mutating func removeValue(forKey key: Key) -> Value? {
        let (place, isThere) = place(of: key)
        return isThere ? elements.remove(at: place).value : nil
    }

    @inlinable public var count: Int { elements.count }
    @inlinable public var isEmpty: Bool { elements.isEmpty }
    @inlinable public var values: some Collection<Value> { elements.lazy.map(\.value) }
}

extension FlatMap: Sequence {
    @inlinable
    public func makeIterator() -> IndexingIterator<[Element]> { elements.makeIterator() }
}

extension FlatMap: Sendable where Key: Sendable, Value: Sendable {}
