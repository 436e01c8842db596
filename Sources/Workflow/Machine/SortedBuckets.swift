/// A sorted set that keeps its elements in short sorted arrays: insertion and removal move at most one array's
/// worth, iteration is sequential in memory, and elements inserted in rising order fill the arrays to the brim.
struct SortedBuckets<Element: Comparable> {
    /// None is empty; each is sorted, and all of a bucket's elements come before the next bucket's.
    private var buckets: [[Element]] = []
    private(set) var count = 0

    private static var bucketCountMax: Int { 256 }

    var isEmpty: Bool { count == 0 }
    var first: Element? { buckets.first?.first }

    /// False when it is there already.
    @discardableResult
    mutating func insert(_ element: Element) -> Bool {
        guard let last = buckets.last?.last, element <= last else {
            append(element)
            return true
        }
        let bucket = bucketIndex(of: element)
        let place = Self.lowerBound(of: element, in: buckets[bucket])
        if buckets[bucket][place] == element { return false }
        buckets[bucket].insert(element, at: place)
        if buckets[bucket].count > Self.bucketCountMax { split(bucket) }
        count += 1
        return true
    }

    /// False when it is not there.
    @discardableResult
    mutating func remove(_ element: Element) -> Bool {
        let bucket = bucketIndex(of: element)
        guard bucket < buckets.count else { return false }
        let place = Self.lowerBound(of: element, in: buckets[bucket])
        guard buckets[bucket][place] == element else { return false }
        buckets[bucket].remove(at: place)
        if buckets[bucket].isEmpty { buckets.remove(at: bucket) }
        count -= 1
        return true
    }

    /// Visits the elements above `bound`, smallest first, until `visit` returns false.
    func ascending(above bound: Element? = nil, _ visit: (Element) -> Bool) {
        var bucket = bound.map { bucketIndex(of: $0) } ?? 0
        var place = 0
        if let bound, bucket < buckets.count {
            place = Self.lowerBound(of: bound, in: buckets[bucket])
            if buckets[bucket][place] == bound { place += 1 }
        }
        while bucket < buckets.count {
            while place < buckets[bucket].count {
                guard visit(buckets[bucket][place]) else { return }
                place += 1
            }
            bucket += 1
            place = 0
        }
    }

    /// Visits the elements below `bound`, largest first, until `visit` returns false.
    func descending(below bound: Element? = nil, _ visit: (Element) -> Bool) {
        var bucket = bound.map { bucketIndex(of: $0) } ?? buckets.count
        var place = 0
        if let bound, bucket < buckets.count { place = Self.lowerBound(of: bound, in: buckets[bucket]) }
        while true {
            while place > 0 {
                place -= 1
                guard visit(buckets[bucket][place]) else { return }
            }
            guard bucket > 0 else { return }
            bucket -= 1
            place = buckets[bucket].count
        }
    }

    private mutating func append(_ element: Element) {
        if let last = buckets.indices.last, buckets[last].count < Self.bucketCountMax {
            buckets[last].append(element)
        } else {
            buckets.append([element])
        }
        count += 1
    }

    private mutating func split(_ bucket: Int) {
        let half = buckets[bucket].count / 2
        let upper = Array(buckets[bucket][half...])
        buckets[bucket].removeSubrange(half...)
        buckets.insert(upper, at: bucket + 1)
    }

    /// The first bucket whose last element is not below `element`; `buckets.count` when there is none.
    private func bucketIndex(of element: Element) -> Int {
        var low = 0
        var high = buckets.count
        while low < high {
            let middle = (low + high) / 2
            if let last = buckets[middle].last, last < element { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private static func lowerBound(of element: Element, in bucket: [Element]) -> Int {
        var low = 0
        var high = bucket.count
        while low < high {
            let middle = (low + high) / 2
            if bucket[middle] < element { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
