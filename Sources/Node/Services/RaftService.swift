import Prelude
import Raft
import Wire
import Workflow

/// `raftoral.RaftService`: what nodes say to each other.
struct RaftService {
    let node: Node

    func register(on server: GRPCServer) {
        server.unary(RaftServicePath.discover, DiscoveryRequest.self) { call, _ in call.respond(node.discoveryResponse)
        }
        server.unary(RaftServicePath.sendMessage, RaftEnvelope.self) { call, envelope in sendMessage(call, envelope) }
        server.unary(RaftServicePath.readImage, ReadImageRequest.self) { call, request in
            node.images.read(call, request)
        }
        server.streaming(RaftServicePath.streamMessages) { stream in streamMessages(stream) }
    }

    // MARK: - Unary

    private func sendMessage(_ call: UnaryCall, _ envelope: RaftEnvelope) {
        if let problem = refusal(envelope) { return call.respond(MessageResponse(success: false, error: problem)) }
        if let command = envelope.command { return propose(command, envelope, call) }
        do {
            let peerMessage = try PeerMessage(decoding: envelope.raftMessage)
            if let problem = take(peerMessage) { return call.respond(MessageResponse(success: false, error: problem)) }
            call.respond(MessageResponse(success: true, error: ""))
        } catch {
            call.fail(.invalidArgument, "raft_message: \(error.description)")
        }
    }

    /// Answered once the command is applied.
    private func propose(_ command: Command, _ envelope: RaftEnvelope, _ call: UnaryCall) {
        let id = envelope.groupID == .directory ? GroupID.firstWorkflows : envelope.groupID
        guard let group = node.groups[id], group.workflowMachine != nil else {
            return call.respond(MessageResponse(success: false, error: "there is no workflow group \(id) here"))
        }
        node.propose(command.encoded(), to: group) { outcome in
            switch outcome {
            case .success(.workflow(.refused(let refusal))):
                call.respond(MessageResponse(success: false, error: refusal.description))
            case .success(.undecodable(let reason)): call.respond(MessageResponse(success: false, error: reason))
            case .success: call.respond(MessageResponse(success: true, error: ""))
            case .failure(let failure): call.fail(failure)
            }
        }
    }

    private func refusal(_ envelope: RaftEnvelope) -> String? {
        if !envelope.clusterID.isEmpty, envelope.clusterID != node.clusterID {
            return "this node belongs to cluster \(node.clusterID), not \(envelope.clusterID)"
        }
        if envelope.toNodeID != .none, envelope.toNodeID != node.id {
            return "this is node \(node.id), not \(envelope.toNodeID)"
        }
        return nil
    }

    private func isForUs(_ envelope: RaftEnvelope) -> Bool {
        guard refusal(envelope) == nil else { return false }
        node.noteDisk(envelope.disk, of: envelope.fromNodeID)
        return true
    }

    private func take(_ peerMessage: PeerMessage) -> String? {
        guard node.groups[peerMessage.group] != nil else { return "there is no group \(peerMessage.group) here" }
        guard peerMessage.message.to == node.id else {
            return "this is node \(node.id), not \(peerMessage.message.to)"
        }
        node.receive(peerMessage.message, group: peerMessage.group)
        return nil
    }

    // MARK: - Stream

    private func streamMessages(_ stream: ServerStream) {
        guard let greeting = PeerGreeting(stream.metadata) else {
            return stream.finish(
                GRPCStatus(code: .invalidArgument, message: "the metadata does not say which node this is"))
        }
        guard greeting.clusterID == node.clusterID else {
            return stream.finish(
                GRPCStatus(
                    code: .failedPrecondition,
                    message: "this node belongs to cluster \(node.clusterID), not \(greeting.clusterID)"))
        }
        if let problem = node.refusal(of: greeting) { return stream.finish(problem) }
        node.peerStreamOpened(greeting, stream)
        stream.readPeerMessages(
            room: node.snapshotRoom, isForUs: { isForUs($0) }, take: take)
        stream.onHalfClose = { [weak node, unowned stream] in
            stream.finish(GRPCStatus(code: .ok, message: ""))
            node?.peerStreamClosed(greeting.nodeID, stream)
        }
        // Not only when the peer ends it: this side ends streams that carry something else than messages.
        stream.onEnd = { [weak node, unowned stream] in node?.peerStreamClosed(greeting.nodeID, stream) }
    }
}

extension Node {
    var discoveryResponse: DiscoveryResponse {
        let group = groups[.directory]
        let leader = group?.leader ?? .none
        return DiscoveryResponse(
            nodeID: id, role: role, highestKnownNodeID: max(directory.state.highestNodeID, id),
            address: advertisedAddress.description, clusterID: clusterID, leaderNodeID: leader,
            leaderAddress: address(of: leader)?.description ?? "")
    }

    /// The role in the directory's group.
    public var role: NodeRole { groups[.directory].map { role(in: $0) } ?? .follower }

    func role(in group: RaftGroup) -> NodeRole {
        switch group.core.role {
        case .leader: return .leader
        case .candidate, .preCandidate: return .candidate
        case .follower: return group.isVoter ? .follower : .learner
        }
    }

    /// Why there is no stream for this peer; nil when there is one.
    func refusal(of greeting: PeerGreeting) -> GRPCStatus? {
        guard greeting.nodeID != id, (1...DirectoryMachine.highestAssignableID).contains(greeting.nodeID) else {
            return GRPCStatus(code: .invalidArgument, message: "\(greeting.nodeID) is not the id of a peer")
        }
        // A node that joins is spoken to before it can know who is a member.
        guard isMember(greeting.nodeID) || inboundStreams.count < limits.node.peerStreamCountMax else {
            return GRPCStatus(code: .resourceExhausted, message: "too many streams of nodes that are no members")
        }
        return nil
    }

    func peerStreamOpened(_ greeting: PeerGreeting, _ stream: ServerStream) {
        // A peer that connects anew has given up its older stream.
        let older = inboundStreams.updateValue(stream, forKey: greeting.nodeID)
        older?.finish(GRPCStatus(code: .aborted, message: "replaced by a newer stream"))
        greetedAddresses[greeting.nodeID] = greeting.address
        noteHeard(greeting.nodeID)
    }

    func peerStreamClosed(_ peer: NodeID, _ stream: ServerStream) {
        guard inboundStreams[peer] === stream else { return }
        inboundStreams[peer] = nil
        if phase == .running { noteLostStream(from: peer) }
    }
}
