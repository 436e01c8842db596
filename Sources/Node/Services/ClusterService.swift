import Prelude
import Raft
import Wire

/// `raftoral.ClusterService`: joining, and what operators ask.
struct ClusterService {
    let node: Node
    let directoryGroup: RaftGroup

    private static let textByteCountMax = 512

    func register(on server: GRPCServer) {
        server.unary(ClusterServicePath.join, JoinRequest.self) { call, request in join(call, request) }
        server.unary(ClusterServicePath.status, ClusterStatusRequest.self) { call, _ in call.respond(node.status) }
        server.unary(ClusterServicePath.remove, RemoveRequest.self) { call, request in remove(call, request) }
        server.unary(ClusterServicePath.transferLeader, TransferLeaderRequest.self) { call, request in
            transferLeader(call, request)
        }
        server.unary(ClusterServicePath.beginBackup, BeginBackupRequest.self) { call, _ in node.backups.begin(call) }
        server.unary(ClusterServicePath.readBackup, ReadBackupRequest.self) { call, request in
            node.backups.read(call, request)
        }
        server.unary(ClusterServicePath.endBackup, EndBackupRequest.self) { call, request in
            node.backups.end(call, request)
        }
    }

    private func join(_ call: UnaryCall, _ request: JoinRequest) {
        guard let address = HostPort(request.address), address.port != 0 else {
            return call.fail(.invalidArgument, "address '\(request.address.prefix(256))' is not HOST:PORT")
        }
        // Both stay in the directory for ever.
        guard request.address.utf8.count <= Self.textByteCountMax, request.requestID.utf8.count <= Self.textByteCountMax
        else {
            return call.fail(.invalidArgument, "address or request_id has more than \(Self.textByteCountMax) bytes")
        }
        // The entry may be proposed twice, after a change of the leader: without an id it would add two members.
        let requestID = request.requestID.isEmpty ? node.makeRequestID() : request.requestID
        let add = DirectoryCommand.Add(
            address: address.description, nodeID: request.nodeID, requestID: requestID,
            aboveNodeID: request.highestKnownNodeID, protocolLevel: request.protocolLevel)
        change(.add(add), call) { result in
            guard case .added(let id) = result else { return nil }
            return JoinResponse(
                nodeID: id, clusterID: node.clusterID, members: node.clusterMembers,
                groupIDs: node.directory.state.groupIDs
            ).encoded()
        }
    }

    /// Only the leader of group 0 hears of all the others, and can tell who lives.
    private func remove(_ call: UnaryCall, _ request: RemoveRequest) {
        let timeout = Nanoseconds.milliseconds(node.limits.node.proposalTimeoutMilliseconds)
        remove(call, request, until: node.seams.clock.now + timeout)
    }

    private func remove(_ call: UnaryCall, _ request: RemoveRequest, until deadline: Nanoseconds) {
        if directoryGroup.isLeader { return removeAsLeader(call, request) }
        guard !request.isForwarded else {
            return call.fail(.unavailable, "node \(node.id) does not lead group 0 any more")
        }
        guard let leader = node.address(of: directoryGroup.leader) else {
            return retry(call, request, until: deadline, "group 0 has no leader")
        }
        let client = NodeClient(
            seams: node.seams, limits: node.limits.wire, target: leader,
            random: SeededRandom(seed: node.random.next()))
        let forwarded = RemoveRequest(nodeID: request.nodeID, isForced: request.isForced, isForwarded: true)
        let left = max(1, deadline &- min(deadline, node.seams.clock.now))
        client.call(ClusterServicePath.remove, forwarded, RemoveResponse.self, timeout: left) { result in
            client.close()
            switch result {
            case .success(let response): call.respond(response)
            case .failure(let status) where status.code == .unavailable:
                retry(call, request, until: deadline, status.message)
            case .failure(let status): call.fail(status)
            }
        }
    }

    private static let retryPause = Nanoseconds.milliseconds(100)

    private func retry(_ call: UnaryCall, _ request: RemoveRequest, until deadline: Nanoseconds, _ reason: String) {
        guard node.phase == .running, node.seams.clock.now + Self.retryPause < deadline else {
            return call.fail(.unavailable, reason)
        }
        _ = node.seams.clock.schedule(after: Self.retryPause) { remove(call, request, until: deadline) }
    }

    private func removeAsLeader(_ call: UnaryCall, _ request: RemoveRequest) {
        if !request.isForced, node.directory.member(request.nodeID) != nil,
            let (group, forecast) = node.groupThatWouldStop(without: request.nodeID)
        {
            return call.fail(
                .failedPrecondition,
                "without node \(request.nodeID) group \(group) would have \(forecast.living) living voters of "
                    + "\(forecast.staying), too few to go on: bring the others back or remove those that are dead first"
            )
        }
        change(.remove(DirectoryCommand.Remove(nodeID: request.nodeID)), call) { result in
            result == .done ? RemoveResponse().encoded() : nil
        }
    }

    private func change(
        _ command: DirectoryCommand, _ call: UnaryCall, response: @escaping (DirectoryResult) -> [UInt8]?
    ) {
        node.propose(command.encoded(), to: directoryGroup) { outcome in
            switch outcome {
            case .success(.directory(let result)):
                if let bytes = response(result) { call.respond(bytes) } else { call.fail(result.status) }
            case .success(.undecodable(let reason)): call.fail(.internalError, reason)
            case .success(.workflow): call.fail(.internalError, "answered by another machine")
            case .failure(let failure): call.fail(failure)
            }
        }
    }

    private func transferLeader(_ call: UnaryCall, _ request: TransferLeaderRequest) {
        guard let group = node.groups[request.groupID] else {
            return call.fail(.notFound, "there is no group \(request.groupID)")
        }
        guard group.configuration.voters.contains(request.nodeID) else {
            return call.fail(.failedPrecondition, "node \(request.nodeID) is not a voter of group \(request.groupID)")
        }
        group.core.transferLeadership(to: request.nodeID)
        node.requestTurn()
        call.respond(TransferLeaderResponse())
    }
}

extension DirectoryResult {
    /// For results that are not the answer that was asked for.
    fileprivate var status: GRPCStatus {
        switch self {
        case .idInUse(let id):
            GRPCStatus(code: .alreadyExists, message: "node id \(id) is, or was, a member; ids are never used twice")
        case .unknownNode(let id): GRPCStatus(code: .notFound, message: "there is no node \(id) in the cluster")
        case .lastNode: GRPCStatus(code: .failedPrecondition, message: "the last node cannot be removed")
        case .idsExhausted:
            GRPCStatus(code: .invalidArgument, message: "node ids go up to \(DirectoryMachine.highestAssignableID)")
        case .protocolTooOld(let needed):
            GRPCStatus(
                code: .failedPrecondition,
                message: "the joiner's program is too old: the cluster is at protocol level \(needed)")
        case .added, .done: GRPCStatus(code: .internalError, message: "unexpected result \(self)")
        }
    }
}

extension Node {
    public var status: ClusterStatusResponse {
        return ClusterStatusResponse(
            nodeID: id, clusterID: clusterID, address: advertisedAddress.description, version: Version.text,
            members: clusterMembers, groups: groups.map { status(of: $0) },
            protocolLevel: directory.state.protocolLevel)
    }

    fileprivate var clusterMembers: [ClusterMember] {
        directory.state.members.map {
            ClusterMember(nodeID: $0.nodeID, address: $0.address, protocolLevel: $0.protocolLevel)
        }
    }

    private func status(of group: RaftGroup) -> GroupStatus {
        let now = seams.clock.now
        let progress = Dictionary(uniqueKeysWithValues: group.core.status.progress.map { ($0.id, $0) })
        let replicas = group.members.map { member in
            let silence = lastHeard[member].map { Int64((now &- $0) / 1_000_000) } ?? -1
            return GroupReplica(
                nodeID: member, isVoter: group.configuration.voters.contains(member),
                matchIndex: progress[member]?.match ?? 0,
                isRecentlyActive: member == id || progress[member]?.recentActive ?? false,
                lastContactMilliseconds: member == id ? 0 : silence)
        }
        return GroupStatus(
            groupID: group.id, role: role(in: group), term: group.core.term, leaderNodeID: group.leader,
            commitIndex: group.core.commitIndex, appliedIndex: group.appliedIndex, firstIndex: group.log.firstIndex,
            lastIndex: group.core.lastIndex, appliedDigest: String(group.appliedDigest, radix: 16), replicas: replicas)
    }
}
