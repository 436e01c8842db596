import Prelude
import Raft

// The text forms of the traces.

extension NodeID {
    var hexadecimal: String { String(rawValue, radix: 16) }

    var target: String {
        switch self {
        case .none: "None"
        case .localAppendThread: "AppendThread"
        case .localApplyThread: "ApplyThread"
        default: hexadecimal
        }
    }
}

extension Role {
    var text: String {
        switch self {
        case .follower: "StateFollower"
        case .candidate: "StateCandidate"
        case .preCandidate: "StatePreCandidate"
        case .leader: "StateLeader"
        }
    }
}

extension MessageKind {
    var text: String {
        switch self {
        case .hup: "MsgHup"
        case .beat: "MsgBeat"
        case .propose: "MsgProp"
        case .append: "MsgApp"
        case .appendResponse: "MsgAppResp"
        case .vote: "MsgVote"
        case .voteResponse: "MsgVoteResp"
        case .snapshot: "MsgSnap"
        case .heartbeat: "MsgHeartbeat"
        case .heartbeatResponse: "MsgHeartbeatResp"
        case .unreachable: "MsgUnreachable"
        case .snapshotStatus: "MsgSnapStatus"
        case .checkQuorum: "MsgCheckQuorum"
        case .transferLeader: "MsgTransferLeader"
        case .timeoutNow: "MsgTimeoutNow"
        case .readIndex: "MsgReadIndex"
        case .readIndexResponse: "MsgReadIndexResp"
        case .preVote: "MsgPreVote"
        case .preVoteResponse: "MsgPreVoteResp"
        case .storageAppend: "MsgStorageAppend"
        case .storageAppendResponse: "MsgStorageAppendResp"
        case .storageApply: "MsgStorageApply"
        case .storageApplyResponse: "MsgStorageApplyResp"
        case .forgetLeader: "MsgForgetLeader"
        }
    }
}

extension HardState {
    var text: String { "Term:\(term)" + (vote == .none ? "" : " Vote:\(vote)") + " Commit:\(commit)" }
}

extension Sequence<NodeID> {
    func joined(_ open: String, _ close: String) -> String {
        open + map(\.description).joined(separator: " ") + close
    }
}

extension ConfState {
    var text: String {
        "Voters:\(voters.joined("[", "]")) VotersOutgoing:\(votersOutgoing.joined("[", "]"))"
            + " Learners:\(learners.joined("[", "]")) LearnersNext:\(learnersNext.joined("[", "]"))"
            + " AutoLeave:\(autoLeave)"
    }

    /// The short form: `voters=(1 2)&&(1) learners=(3) autoleave`.
    var configurationText: String {
        var text = "voters=" + voters.joined("(", ")")
        if !votersOutgoing.isEmpty { text += "&&" + votersOutgoing.joined("(", ")") }
        if !learners.isEmpty { text += " learners=" + learners.joined("(", ")") }
        if !learnersNext.isEmpty { text += " learners_next=" + learnersNext.joined("(", ")") }
        if autoLeave { text += " autoleave" }
        return text
    }
}

extension Snapshot {
    var text: String { "Index:\(metadata.index) Term:\(metadata.term) ConfState:\(metadata.confState.text)" }
}

extension ConfChangeSingle {
    var text: String {
        switch kind {
        case .addVoter: "v\(node)"
        case .addLearner: "l\(node)"
        case .remove: "r\(node)"
        case .update: "u\(node)"
        }
    }
}

extension Entry {
    var text: String {
        let kindText: String
        var detail: String
        switch kind {
        case .normal:
            kindText = "EntryNormal"
            detail = quoted(data)
        case .confChange, .confChangeV2:
            kindText = kind == .confChange ? "EntryConfChange" : "EntryConfChangeV2"
            do {
                detail = try ConfChange(decoding: data).changes.map(\.text).joined(separator: " ")
            } catch {
                detail = "\(error)"
            }
        }
        if !detail.isEmpty { detail = " " + detail }
        return "\(term)/\(index) \(kindText)\(detail)"
    }
}

extension Sequence<Entry> {
    /// One entry per line.
    var text: String { map { $0.text + "\n" }.joined() }
}

extension Message {
    func text(indent: String = "") -> String {
        var text = "\(indent)\(from.target)->\(to.target) \(kind.text) Term:\(term) Log:\(logTerm)/\(index)"
        if reject { text += " Rejected (Hint: \(rejectHint))" }
        if commit != 0 { text += " Commit:\(commit)" }
        if vote != .none { text += " Vote:\(vote)" }
        if entries.count == 1 {
            text += " Entries:[\(entries[0].text)]"
        } else if entries.count > 1 {
            text += " Entries:["
            for entry in entries { text += "\n\(indent)  \(entry.text)" }
            text += "\n\(indent)]"
        }
        if let snapshot, !snapshot.isEmpty { text += "\n\(indent)  Snapshot: \(snapshot.text)" }
        if !responses.isEmpty {
            text += " Responses:["
            for response in responses { text += "\n" + response.text(indent: indent + "  ") }
            text += "\n\(indent)]"
        }
        return text
    }
}

extension Ready {
    var text: String {
        var text = ""
        if let softState { text += "Lead:\(softState.leader) State:\(softState.role.text)\n" }
        if let hardState, !hardState.isEmpty { text += "HardState \(hardState.text)\n" }
        if !readStates.isEmpty {
            let states = readStates.map { state in
                "{\(state.index) [\(state.context.map(String.init).joined(separator: " "))]}"
            }
            text += "ReadStates [\(states.joined(separator: " "))]\n"
        }
        if !entries.isEmpty { text += "Entries:\n" + entries.text }
        if let snapshot { text += "Snapshot \(snapshot.text)\n" }
        if !committedEntries.isEmpty { text += "CommittedEntries:\n" + committedEntries.text }
        if !messages.isEmpty { text += "Messages:\n" + messages.map { $0.text() + "\n" }.joined() }
        return text.isEmpty ? "<empty Ready>" : "Ready MustSync=\(mustSync):\n\(text)"
    }
}

extension RaftStatus.PeerProgress {
    var text: String {
        let stateText =
            switch state {
            case .probe: "StateProbe"
            case .replicate: "StateReplicate"
            case .snapshot: "StateSnapshot"
            }
        var text = "\(stateText) match=\(match) next=\(next)"
        if isLearner { text += " learner" }
        if isPaused { text += " paused" }
        if pendingSnapshot > 0 { text += " pendingSnap=\(pendingSnapshot)" }
        if !recentActive { text += " inactive" }
        if inflightCount > 0 { text += " inflight=\(inflightCount)" + (isInflightFull ? "[full]" : "") }
        return text
    }
}

/// In double quotes, with escapes for what is no printable text.
func quoted(_ bytes: [UInt8]) -> String {
    var text = "\""
    var rest = bytes[...]
    while let byte = rest.first {
        let length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2
        guard let character = String(validating: rest.prefix(length), as: UTF8.self) else {
            text += hexadecimal(byte, prefix: "\\x")
            rest = rest.dropFirst()
            continue
        }
        text += escaped(character, byte)
        rest = rest.dropFirst(length)
    }
    return text + "\""
}

private func escaped(_ character: String, _ byte: UInt8) -> String {
    switch character {
    case "\"": "\\\""
    case "\\": "\\\\"
    case "\u{07}": "\\a"
    case "\u{08}": "\\b"
    case "\u{0C}": "\\f"
    case "\n": "\\n"
    case "\r": "\\r"
    case "\t": "\\t"
    case "\u{0B}": "\\v"
    default: byte < 0x20 || byte == 0x7F ? hexadecimal(byte, prefix: "\\x") : character
    }
}

private func hexadecimal(_ byte: UInt8, prefix: String) -> String {
    prefix + (byte < 16 ? "0" : "") + String(byte, radix: 16)
}
