import Prelude

// Version 1, all by `ByteWriter`:
//   version, group, revision, runs in order of their index, variables in order of their key,
//   answers to requests in order of arrival, origins in order of their node.
// Version 2 says of each run its trace context, too. It is written only when a run has one, which is never so before all
// nodes can read it.
// The indexes over the runs are built anew.
extension WorkflowMachine {
    private static var untraced: UInt8 { 1 }
    private static var traced: UInt8 { 2 }

    /// The state as bytes: equal states give equal bytes.
    public func snapshot() -> [UInt8] {
        var writer = ByteWriter(capacity: stateByteCount + 4096)
        let isTraced = runs.values.contains { $0.trace != nil }
        writer.append(isTraced ? Self.traced : Self.untraced)
        writer.append(varint: group.rawValue)
        writer.append(varint: revision)
        writer.append(varint: UInt64(order.count))
        order.ascending { index in
            runs[index]?.write(to: &writer, isTraced: isTraced)
            return true
        }
        let keys = variables.keys.sorted()
        writer.append(varint: UInt64(keys.count))
        for key in keys {
            guard let variable = variables[key] else { continue }
            writer.append(text: key.text)
            writer.append(string: variable.value)
            writer.append(varint: variable.revision)
        }
        answers.write(to: &writer)
        writer.append(varint: UInt64(origins.count))
        for node in origins.keys.sorted() {
            writer.append(varint: node.rawValue)
            origins[node]?.write(to: &writer)
        }
        return writer.bytes
    }

    /// Whether the other machine would write the same snapshot, found out without writing any. Runs that ended at
    /// `compared` or before are not looked at again.
    public func hasSameState(as other: WorkflowMachine, compared: LogIndex = 0) -> Bool {
        guard group == other.group, revision == other.revision, runs.count == other.runs.count,
            variables == other.variables, origins.count == other.origins.count
        else { return false }
        for (index, run) in runs where !run.status.isEnded || run.endedIndex > compared {
            guard let theirs = other.runs[index], run.isSame(as: theirs) else { return false }
        }
        var (mine, theirs) = (ByteWriter(), ByteWriter())
        answers.write(to: &mine)
        other.answers.write(to: &theirs)
        for node in origins.keys.sorted() {
            guard let window = other.origins[node] else { return false }
            origins[node]?.write(to: &mine)
            window.write(to: &theirs)
        }
        return mine.bytes == theirs.bytes
    }

    /// The machine that wrote `snapshot`. Throws when the bytes are not what a machine writes.
    public convenience init(snapshot: [UInt8], limits: WorkflowLimits = WorkflowLimits()) throws(MalformedBytes) {
        var reader = ByteReader(snapshot)
        let version = try reader.byte()
        guard version == Self.untraced || version == Self.traced else {
            throw MalformedBytes(offset: 0, expected: "version \(Self.traced) of the machine's state")
        }
        self.init(group: GroupID(try reader.varint()), limits: limits)
        revision = try reader.varint()
        try reader.require(revision < UInt64.max, "a revision that can rise")
        try readRuns(&reader, isTraced: version == Self.traced)
        try readVariables(&reader)
        answers = try RequestAnswers(from: &reader)
        try readOrigins(&reader)
        try reader.end()
    }

    private func readRuns(_ reader: inout ByteReader, isTraced: Bool) throws(MalformedBytes) {
        let count = try reader.count(minimumByteCount: 32)
        runs.reserveCapacity(count)
        newest.reserveCapacity(count)
        var last: LogIndex = 0
        for place in 0..<count {
            let run = try WorkflowRun(from: &reader, group: group, isTraced: isTraced)
            try reader.require(place == 0 || run.id.index > last, "runs in rising order")
            last = run.id.index
            if let other = newest[ExactText(run.workflowID)] {
                try reader.require(other.status != .running, "one running run per workflow id")
            }
            if !run.requestID.isEmpty {
                try reader.require(runsByRequest[ExactText(run.requestID)] == nil, "one run per request id")
            }
            insert(run)
        }
        finishRuns()
    }

    private func readVariables(_ reader: inout ByteReader) throws(MalformedBytes) {
        let count = try reader.count(minimumByteCount: 3)
        variables.reserveCapacity(count)
        var last: ExactText?
        for _ in 0..<count {
            let key = ExactText(try reader.text())
            let variable = Variable(value: try reader.string(), revision: try reader.varint())
            if let last { try reader.require(last < key, "keys in rising order") }
            try reader.require((1...max(1, revision)).contains(variable.revision), "a revision that was given")
            last = key
            variables[key] = variable
            variableByteCount += Self.byteCount(key.text, variable.value)
        }
    }

    private func readOrigins(_ reader: inout ByteReader) throws(MalformedBytes) {
        let count = try reader.count(minimumByteCount: 5)
        var last: NodeID?
        for _ in 0..<count {
            let node = NodeID(try reader.varint())
            if let last { try reader.require(last < node, "nodes in rising order") }
            last = node
            origins[node] = try OriginWindow(from: &reader)
        }
    }
}

extension WorkflowRun {
    /// In all that `write` writes.
    fileprivate func isSame(as other: WorkflowRun) -> Bool {
        id.index == other.id.index && workflowID.isExactly(other.workflowID) && type.isExactly(other.type)
            && version == other.version && input == other.input && requestID.isExactly(other.requestID)
            && trace == other.trace
            && startedMilliseconds == other.startedMilliseconds && status == other.status && owner == other.owner
            && ownerIncarnation == other.ownerIncarnation && epoch == other.epoch && stalled.isExactly(other.stalled)
            && endedMilliseconds == other.endedMilliseconds && endedIndex == other.endedIndex
            && result == other.result && failure.isExactly(other.failure) && records == other.records
    }

    fileprivate func write(to writer: inout ByteWriter, isTraced: Bool) {
        writer.append(varint: id.index.rawValue)
        writer.append(text: workflowID)
        writer.append(text: type)
        writer.append(varint: UInt64(version))
        writer.append(input)
        writer.append(text: requestID)
        if isTraced { writer.append(text: trace?.description ?? "") }
        writer.append(signed: startedMilliseconds)
        writer.append(UInt8(status.rawValue))
        writer.append(varint: owner.rawValue)
        writer.append(varint: ownerIncarnation.rawValue)
        writer.append(varint: epoch.rawValue)
        writer.append(text: stalled)
        if status.isEnded {
            writer.append(signed: endedMilliseconds)
            writer.append(varint: endedIndex.rawValue)
            writer.append(optional: result)
            writer.append(text: failure)
        }
        writer.append(varint: UInt64(records.count))
        for record in records { record.write(to: &writer) }
    }

    fileprivate convenience init(
        from reader: inout ByteReader, group: GroupID, isTraced: Bool
    ) throws(MalformedBytes) {
        let index = LogIndex(try reader.varint())
        var start = Command.Start(
            workflowID: try reader.text(), type: try reader.text(), version: try reader.varint32(),
            input: try reader.payload(), owner: .none, ownerIncarnation: 0, requestID: try reader.text())
        if isTraced { start.trace = TraceContext(try reader.text()) }
        let context = ApplyContext(group: group, index: index, timeMilliseconds: try reader.signed())
        self.init(start, context)
        guard let status = WorkflowStatus(rawValue: UInt32(try reader.byte())) else {
            throw MalformedBytes(offset: reader.offset - 1, expected: "a status")
        }
        self.status = status
        owner = NodeID(try reader.varint())
        ownerIncarnation = Incarnation(try reader.varint())
        epoch = Epoch(try reader.varint())
        try reader.require(epoch >= 1 && epoch < Epoch(UInt64.max), "an epoch from 1")
        try reader.require(owner != .none, "an owner")
        stalled = try reader.text()
        if status.isEnded {
            endedMilliseconds = try reader.signed()
            endedIndex = LogIndex(try reader.varint())
            result = try reader.optionalPayload()
            failure = try reader.text()
        }
        byteCount += stalled.utf8.count + (result?.byteCount ?? 0) + failure.utf8.count
        let count = try reader.count(minimumByteCount: 16)
        records.reserveCapacity(count)
        for _ in 0..<count {
            let record = try WorkflowRecord(from: &reader)
            if let last = records.last {
                try reader.require(last.position < record.position, "positions in rising order")
            }
            byteCount += record.byteCount
            records.append(record)
        }
    }
}

extension WorkflowRecord {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.append(varint: UInt64(position))
        writer.append(kind.rawValue)
        writer.append(text: key)
        writer.append(optional: value)
        writer.append(text: failure)
        writer.append(varint: UInt64(attempt))
        writer.append(varint: epoch.rawValue)
        writer.append(varint: index.rawValue)
        writer.append(signed: timeMilliseconds)
        if kind == .timer {
            writer.append(signed: fireAtMilliseconds)
            writer.append(isPending)
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        let position = try reader.varint32()
        guard let kind = RecordKind(rawValue: try reader.byte()) else {
            throw MalformedBytes(offset: reader.offset - 1, expected: "a kind of record")
        }
        self.init(
            position: position, kind: kind, key: try reader.text(), value: try reader.optionalPayload(),
            failure: try reader.text(), attempt: try reader.varint32(), epoch: Epoch(try reader.varint()),
            index: LogIndex(try reader.varint()), timeMilliseconds: try reader.signed(), fireAtMilliseconds: 0,
            isPending: false)
        if kind == .timer {
            fireAtMilliseconds = try reader.signed()
            isPending = try reader.bool()
        }
    }
}

extension RequestAnswers {
    fileprivate func write(to writer: inout ByteWriter) {
        writer.append(varint: UInt64(order.count))
        for request in order {
            writer.append(request.kind.rawValue)
            writer.append(text: request.id.text)
            switch self[request] {
            case .swapped(let swapped, let revision):
                writer.append(swapped)
                writer.append(varint: revision)
            case .deleted(let existed): writer.append(existed)
            case .variable(let revision): writer.append(varint: revision)
            default: invariantBroken("only the answers to requests about variables are remembered")
            }
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.init()
        let count = try reader.count(minimumByteCount: 3)
        for _ in 0..<count {
            guard let kind = Kind(rawValue: try reader.byte()) else {
                throw MalformedBytes(offset: reader.offset - 1, expected: "a kind of request")
            }
            let request = Request(kind: kind, id: ExactText(try reader.text()))
            try reader.require(self[request] == nil, "requests that differ")
            let answer: CommandResult =
                switch kind {
                case .put: .variable(revision: try reader.varint())
                case .swap: .swapped(try reader.bool(), revision: try reader.varint())
                case .delete: .deleted(existed: try reader.bool())
                }
            remember(request, answer, countMax: .max)
        }
    }
}

extension ByteWriter {
    fileprivate mutating func append(_ payload: Payload) {
        append(text: payload.encoding)
        append(string: payload.data)
    }

    fileprivate mutating func append(optional payload: Payload?) {
        append(payload != nil)
        if let payload { append(payload) }
    }
}

extension ByteReader {
    fileprivate func require(_ holds: Bool, _ expected: String) throws(MalformedBytes) {
        if !holds { throw MalformedBytes(offset: offset, expected: expected) }
    }

    fileprivate mutating func varint32() throws(MalformedBytes) -> UInt32 {
        let value = try varint()
        try require(value <= UInt64(UInt32.max), "a number of at most 32 bits")
        return UInt32(value)
    }

    fileprivate mutating func payload() throws(MalformedBytes) -> Payload {
        Payload(encoding: try text(), data: try string())
    }

    fileprivate mutating func optionalPayload() throws(MalformedBytes) -> Payload? {
        try bool() ? try payload() : nil
    }
}
