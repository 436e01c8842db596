import DequeModule
import Prelude

/// A variable of the whole group.
public struct Variable: Equatable, Sendable {
    public var value: [UInt8]
    /// Rises with every change of any variable.
    public var revision: UInt64

    public init(value: [UInt8], revision: UInt64) {
        self.value = value
        self.revision = revision
    }
}

extension WorkflowMachine {
    func apply(_ put: Command.VariablePut) throws(Refusal) -> CommandResult {
        try answering(.put, put.requestID) { () throws(Refusal) in
            try set(put.key, put.value)
            return .variable(revision: revision)
        }
    }

    func apply(_ swap: Command.VariableCompareAndSwap) throws(Refusal) -> CommandResult {
        try answering(.swap, swap.requestID) { () throws(Refusal) in
            try require(key: swap.key)
            let current = variables[ExactText(swap.key)]?.revision ?? 0
            guard current == swap.expectedRevision else { return .swapped(false, revision: current) }
            try set(swap.key, swap.value)
            return .swapped(true, revision: revision)
        }
    }

    func apply(_ delete: Command.VariableDelete) throws(Refusal) -> CommandResult {
        try answering(.delete, delete.requestID) { () throws(Refusal) in
            try require(key: delete.key)
            let removed = variables.removeValue(forKey: ExactText(delete.key))
            guard let old = removed else { return .deleted(existed: false) }
            variableByteCount -= Self.byteCount(delete.key, old.value)
            noteChange(ofVariable: ExactText(delete.key))
            return .deleted(existed: true)
        }
    }

    static func byteCount(_ key: String, _ value: [UInt8]) -> Int { 64 + key.utf8.count + value.count }

    private func set(_ key: String, _ value: [UInt8]) throws(Refusal) {
        try require(key: key)
        try require(.variableValueByteCount, value.count, max: limits.variableValueByteCountMax)
        let old = variables[ExactText(key)]
        if old == nil { try require(.variableCount, variables.count + 1, max: limits.variableCountMax) }
        let growth = Self.byteCount(key, value) - (old.map { Self.byteCount(key, $0.value) } ?? 0)
        if growth > 0 {
            try require(.stateByteCount, stateByteCount + growth, max: limits.stateByteCountMax / 8 * 7)
        }
        revision += 1
        variableByteCount += growth
        variables[ExactText(key)] = Variable(value: value, revision: revision)
        noteChange(ofVariable: ExactText(key))
    }

    private func require(key: String) throws(Refusal) {
        if key.isEmpty { throw .invalid("the key is empty") }
        try require(.variableKeyByteCount, key.utf8.count, max: limits.variableKeyByteCountMax)
    }

    /// The answer that the request got before, or the one that it gets now. Refusals change nothing and are not
    /// remembered.
    private func answering(
        _ kind: RequestAnswers.Kind, _ requestID: String, _ act: () throws(Refusal) -> CommandResult
    ) throws(Refusal) -> CommandResult {
        if requestID.isEmpty { return try act() }
        try require(.identifierByteCount, requestID.utf8.count, max: limits.identifierByteCountMax)
        let request = RequestAnswers.Request(kind: kind, id: ExactText(requestID))
        if let known = answers[request] { return known }
        let answer = try act()
        answers.remember(request, answer, countMax: limits.rememberedRequestCountMax)
        return answer
    }
}

/// What requests about variables were answered, so that repeating one gives the same answer. The oldest is
/// forgotten first.
struct RequestAnswers {
    enum Kind: UInt8 { case put = 0, swap = 1, delete = 2 }

    struct Request: Hashable {
        var kind: Kind
        var id: ExactText
    }

    private(set) var order: Deque<Request> = []
    /// How many were remembered before the first of `order`. The replicas may differ in it.
    private(set) var first: UInt64
    private var answers: [Request: CommandResult] = [:]

    init(first: UInt64 = 0) { self.first = first }

    var end: UInt64 { first + UInt64(order.count) }

    subscript(request: Request) -> CommandResult? { answers[request] }

    mutating func remember(_ request: Request, _ answer: CommandResult, countMax: Int) {
        order.append(request)
        answers[request] = answer
        while order.count > countMax {
            answers[order.removeFirst()] = nil
            first += 1
        }
    }
}
