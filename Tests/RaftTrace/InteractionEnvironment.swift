import Prelude
import Raft

/// Carries out the directives of interaction traces: nodes, their undelivered messages, and what is printed.
final class InteractionEnvironment: TraceEnvironment {
    let output = TraceOutput()
    private(set) var nodes: [TraceNode] = []
    var messages: [Message] = []

    func handle(_ directive: Directive) -> String {
        output.reset()
        do {
            try carryOut(directive)
        } catch {
            // Errors are shown at every level.
            if output.isQuiet { return "\(error)" }
            output.write("\(error)")
        }
        return output.text.isEmpty ? "ok" : output.text
    }

    /// Lines after the first are further commands, but for those of a configuration change, which are its operations.
    /// The first command's error ends the directive; that of a further one is printed, and the next one follows.
    private func carryOut(_ directive: Directive) throws {
        try carryOutFirst(directive)
        if directive.command == "propose-conf-change" { return }
        for line in directive.input.split(separator: "\n") {
            do {
                try carryOutFirst(further(String(line).trimmed, of: directive))
            } catch  where !output.isQuiet {
                output.write("\(error)")
            }
        }
    }

    private func further(_ line: String, of directive: Directive) throws -> Directive {
        var further = directive
        do {
            (further.command, further.arguments) = try TraceFile.parse(line, at: directive.line)
        } catch {
            throw TraceError(error.reason)
        }
        further.input = ""
        return further
    }

    private func carryOutFirst(_ directive: Directive) throws {
        switch directive.command {
        case "_breakpoint": break
        case "add-nodes": try addNodes(directive)
        case "campaign": try node(directive).raw.campaign()
        case "compact": try compact(directive)
        case "deliver-msgs": try deliver(directive)
        case "process-ready": try process(directive, "handling Ready", processReady)
        case "process-append-thread": try process(directive, "processing append thread", processAppendThread)
        case "process-apply-thread": try process(directive, "processing apply thread", processApplyThread)
        case "log-level": try setLevel(directive.words.first ?? "")
        case "raft-log": try printLog(of: node(directive))
        case "raft-state": printStates()
        case "set-randomized-election-timeout": try setElectionTimeout(directive)
        case "stabilize": try stabilize(directive)
        case "status": try printStatus(of: node(directive))
        case "tick-election": try tick(node(directive), \.electionTicks)
        case "tick-heartbeat": try tick(node(directive), \.heartbeatTicks)
        case "transfer-leadership": try transferLeadership(directive)
        case "forget-leader": try node(directive).raw.forgetLeader()
        case "send-snapshot": try sendSnapshot(directive)
        case "propose": try propose(directive)
        case "propose-conf-change": try proposeConfChange(directive)
        case "report-unreachable": try reportUnreachable(directive)
        default: throw TraceError("unknown command")
        }
    }

    // MARK: Nodes

    func node(_ id: UInt64) throws -> TraceNode {
        guard id > 0, id <= UInt64(nodes.count) else { throw TraceError("there is no node \(id)") }
        return nodes[Int(id) - 1]
    }

    private func node(_ directive: Directive) throws -> TraceNode {
        guard let first = directive.words.first else { throw TraceError("\(directive.command) needs a node") }
        return try node(parseNumber(first))
    }

    func nodes(_ directive: Directive) throws -> [TraceNode] { try directive.numbers().map(node) }

    private func addNodes(_ directive: Directive) throws {
        guard let count = try directive.numbers().first, count <= 100 else {
            throw TraceError("add-nodes needs a number of nodes, up to 100")
        }
        var snapshot = Snapshot()
        snapshot.metadata.index = LogIndex(try directive.number("index") ?? 0)
        snapshot.metadata.confState.voters = try directive.ids("voters")
        snapshot.metadata.confState.learners = try directive.ids("learners")
        snapshot.data = Array((directive.value("content") ?? "").utf8)
        let isRestored = snapshot != Snapshot()
        if isRestored {
            if snapshot.metadata.index <= 1 { throw TraceError("index must be specified as > 1 due to bootstrap") }
            if snapshot.metadata.index.rawValue > 1 << 62 { throw TraceError("index is too large") }
            snapshot.metadata.term = 1
        }
        for _ in 0..<count {
            let id = NodeID(UInt64(nodes.count + 1))
            let storage = TraceStorage(history: snapshot)
            if isRestored { try storage.memory.applySnapshot(snapshot) }
            var configuration = try configuration(directive, id: id)
            configuration.applied = snapshot.metadata.index
            nodes.append(try TraceNode(configuration, storage: storage, output: output))
        }
    }

    private func configuration(_ directive: Directive, id: NodeID) throws -> RaftConfiguration {
        var configuration = RaftConfiguration(
            id: id, electionTicks: 3, heartbeatTicks: 1, random: SeededRandom(seed: id.rawValue))
        if let inflight = try directive.number("inflight") {
            configuration.inflightMessageCountMax = Int(clamping: inflight)
        }
        // 0 stands for the default.
        if let byteCount = try directive.number("max-committed-size-per-ready"), byteCount > 0 {
            configuration.committedByteCountPerReadyMax = byteCount
        }
        configuration.asyncStorageWrites = try directive.flag("async-storage-writes") ?? false
        configuration.preVote = try directive.flag("prevote") ?? false
        configuration.checkQuorum = try directive.flag("checkquorum") ?? false
        configuration.stepDownOnRemoval = try directive.flag("step-down-on-removal") ?? false
        configuration.disableConfChangeValidation = try directive.flag("disable-conf-change-validation") ?? false
        switch directive.value("read-only") {
        case nil, "safe": configuration.readOnlyOption = .safe
        case "lease-based": configuration.readOnlyOption = .leaseBased
        case let other?: throw TraceError("invalid read-only option \"\(other)\"")
        }
        return configuration
    }

    // MARK: Inputs

    private func tick(_ node: TraceNode, _ count: KeyPath<RaftConfiguration, Int>) throws {
        for _ in 0..<node.configuration[keyPath: count] { node.raw.tick() }
    }

    private func setElectionTimeout(_ directive: Directive) throws {
        guard let timeout = try directive.number("timeout"), timeout > 0 else { throw TraceError("timeout is missing") }
        try node(directive).raw.setRandomizedElectionTicks(Int(clamping: timeout))
    }

    private func transferLeadership(_ directive: Directive) throws {
        guard let from = try directive.number("from"), let to = try directive.ids("to").last, to != .none else {
            throw TraceError("transfer-leadership needs from and to")
        }
        try node(from).raw.transferLeadership(to: to)
    }

    private func reportUnreachable(_ directive: Directive) throws {
        let named = try nodes(directive)
        guard named.count == 2 else {
            throw TraceError(
                "must specify exactly two node indexes: node on which to report, and reported node")
        }
        named[0].raw.reportUnreachable(named[1].raw.id)
    }

    private func propose(_ directive: Directive) throws {
        guard directive.words.count == 2 else { throw TraceError("propose needs a node and data") }
        try node(directive).raw.propose(Array(directive.words[1].utf8))
    }

    private func proposeConfChange(_ directive: Directive) throws {
        for argument in directive.arguments.dropFirst() where !["v1", "transition"].contains(argument.key) {
            throw TraceError("unknown command \(argument.key)")
        }
        var change = ConfChange(changes: try parseChanges(directive.input))
        switch directive.value("transition") {
        case nil, "auto": change.transition = .auto
        case "implicit": change.transition = .jointImplicit
        case "explicit": change.transition = .jointExplicit
        case let other?: throw TraceError("unknown transition \(other)")
        }
        guard try directive.flag("v1") ?? false else {
            return try node(directive).raw.proposeConfChange(change)
        }
        if change.changes.count > 1 || change.transition != .auto {
            throw TraceError("v1 conf change can only have one operation and no transition")
        }
        try node(directive).raw.proposeConfChange(change, kind: .confChange)
    }

    private func sendSnapshot(_ directive: Directive) throws {
        let named = try nodes(directive)
        guard named.count == 2 else { throw TraceError("send-snapshot needs two nodes") }
        let message = Message(
            kind: .snapshot, to: named[1].raw.id, from: named[0].raw.id, term: named[0].raw.term,
            snapshot: try named[0].storage.snapshot())
        messages.append(message)
        output.write(message.text())
    }

    private func compact(_ directive: Directive) throws {
        let numbers = try directive.numbers()
        guard numbers.count == 2 else { throw TraceError("compact needs a node and an index") }
        let node = try node(numbers[0])
        if numbers[1] > node.raw.appliedIndex.rawValue {
            throw TraceError("entries up to \(numbers[1]) are not applied, only up to \(node.raw.appliedIndex)")
        }
        try node.storage.memory.compact(to: LogIndex(numbers[1]))
        try printLog(of: node)
    }

    // MARK: Printing

    func setLevel(_ name: String) throws {
        guard let level = TraceLevel.allCases.first(where: { $0.name == name.uppercased() }) else {
            let names = TraceLevel.allCases.map(\.name).joined(separator: " ")
            throw TraceError("log levels must be either of [\(names)]")
        }
        output.level = level
    }

    private func printLog(of node: TraceNode) throws {
        let first = node.storage.firstIndex
        let last = node.storage.lastIndex
        if last < first {
            output.write("log is empty: first index=\(first), last index=\(last)")
            return
        }
        output.write(try node.storage.entries(from: first, to: last + 1, byteCountMax: .max).text)
    }

    private func printStates() {
        for node in nodes {
            let status = node.raw.status
            let kind = status.configuration.isVoter(status.id) ? "(Voter)" : "(Non-Voter)"
            output.write(
                "\(status.id): \(status.softState.role.text) \(kind) Term:\(status.hardState.term)"
                    + " Lead:\(status.softState.leader)\n")
        }
    }

    private func printStatus(of node: TraceNode) {
        for progress in node.raw.status.progress { output.write("\(progress.id): \(progress.text)\n") }
    }
}
