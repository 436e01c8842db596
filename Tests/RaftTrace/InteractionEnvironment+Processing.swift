import Prelude
import Raft

extension InteractionEnvironment {
    /// One after the other; with a header each if there are several.
    func process(_ directive: Directive, _ doing: String, _ work: (TraceNode) throws -> Void) throws {
        let named = try nodes(directive)
        for node in named {
            if named.count == 1 { return try work(node) }
            try processUnderHeader(node, doing) { try work(node) }
        }
    }

    private func processUnderHeader(_ node: TraceNode, _ doing: String, _ work: () throws -> Void) throws {
        output.write("> \(node.raw.id) \(doing)\n")
        try output.indented(work)
    }

    func processReady(_ node: TraceNode) throws {
        let ready = node.raw.ready()
        output.write(ready.text)
        let isAsync = node.configuration.asyncStorageWrites
        if !isAsync {
            try node.append(ready.hardState, ready.entries, ready.snapshot)
            try node.apply(ready.committedEntries)
        }
        for message in ready.messages {
            switch message.to {
            case .localAppendThread: node.appendWork.append(message)
            case .localApplyThread: node.applyWork.append(message)
            default: messages.append(message)
            }
        }
        if !isAsync { node.raw.advance() }
    }

    func processAppendThread(_ node: TraceNode) throws {
        if node.appendWork.isEmpty { return output.write("no append work to perform") }
        try processStorageWork(node.appendWork.removeFirst()) { message in
            try node.append(message.hardState, message.entries, message.snapshot)
        }
    }

    func processApplyThread(_ node: TraceNode) throws {
        if node.applyWork.isEmpty { return output.write("no apply work to perform") }
        try processStorageWork(node.applyWork.removeFirst()) { message in try node.apply(message.entries) }
    }

    private func processStorageWork(_ message: Message, _ work: (Message) throws -> Void) throws {
        var request = message
        request.responses = []
        output.write("Processing:\n\(request.text())\n")
        try work(request)
        output.write("Responses:\n")
        for response in message.responses { output.write(response.text() + "\n") }
        messages += message.responses
    }

    // MARK: Delivery

    func deliver(_ directive: Directive) throws {
        var kind: MessageKind?
        if let name = directive.value("type") {
            kind = MessageKind.allCases.first { $0.text == name }
            if kind == nil { throw TraceError("unknown message type \(name)") }
        }
        let recipients = try directive.words.map(parseID)
        let dropped = try directive.ids("drop")
        if let both = dropped.first(where: recipients.contains) {
            throw TraceError("can't both deliver and drop msgs to \(both)")
        }
        // In the order of the arguments.
        var count = 0
        for argument in directive.arguments where argument.values.isEmpty || argument.key == "drop" {
            for text in argument.values.isEmpty ? [argument.key] : argument.values where !text.isEmpty {
                let id = try parseID(text)
                count += try deliver(to: id, kind: kind, isDropping: argument.key == "drop")
            }
        }
        if count == 0 { output.write("no messages\n") }
    }

    @discardableResult
    private func deliver(to id: NodeID, kind: MessageKind? = nil, isDropping: Bool = false) throws -> Int {
        let chosen = undelivered(to: id, kind: kind, isDropping: isDropping)
        messages = chosen.rest
        for message in chosen.messages {
            output.write((isDropping ? "dropped: " : "") + message.text() + "\n")
            if isDropping { continue }
            let recipient = try node(message.to.rawValue)
            do {
                try recipient.raw.step(message)
            } catch {
                output.write("\(error)\n")
            }
        }
        return chosen.messages.count
    }

    private func undelivered(
        to id: NodeID, kind: MessageKind? = nil, isDropping: Bool = false
    ) -> (messages: [Message], rest: [Message]) {
        var chosen: [Message] = []
        var rest: [Message] = []
        for message in messages {
            // A node does not lose what it tells itself.
            let isLocal = message.from == message.to || message.from.isLocalThread || message.to.isLocalThread
            let isChosen = message.to == id && (kind == nil || kind == message.kind) && !(isDropping && isLocal)
            if isChosen { chosen.append(message) } else { rest.append(message) }
        }
        return (chosen, rest)
    }

    // MARK: Stabilization

    /// No trace comes near; a core that keeps two nodes talking for ever does.
    private var roundCountMax: Int { 10_000 }

    func stabilize(_ directive: Directive) throws {
        let before = output.level
        defer { output.level = before }
        if let level = directive.value("log-level") { try setLevel(level) }
        let named = directive.words.isEmpty ? nodes : try nodes(directive)
        for _ in 0..<roundCountMax where try !stabilizeOnce(named) { return }
        throw TraceError("not stable after \(roundCountMax) rounds")
    }

    /// False when there was nothing to do.
    private func stabilizeOnce(_ named: [TraceNode]) throws -> Bool {
        var hasWorked = false
        for node in named where node.raw.hasReady {
            try processUnderHeader(node, "handling Ready") { try processReady(node) }
            hasWorked = true
        }
        for node in named where !undelivered(to: node.raw.id).messages.isEmpty {
            try processUnderHeader(node, "receiving messages") { try deliver(to: node.raw.id) }
            hasWorked = true
        }
        for node in named where !node.appendWork.isEmpty {
            try processUnderHeader(node, "processing append thread") {
                while !node.appendWork.isEmpty { try processAppendThread(node) }
            }
            hasWorked = true
        }
        for node in named where !node.applyWork.isEmpty {
            try processUnderHeader(node, "processing apply thread") {
                while !node.applyWork.isEmpty { try processApplyThread(node) }
            }
            hasWorked = true
        }
        return hasWorked
    }
}
