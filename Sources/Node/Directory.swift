import Prelude
import Storage
import Wire
import Workflow

/// What group 0 answered.
enum DirectoryResult: Equatable, Sendable {
    case added(NodeID)
    case done
    case idInUse(NodeID)
    case unknownNode(NodeID)
    case lastNode
    case idsExhausted
    case protocolTooOld(needed: UInt32)
}

/// Group 0: who is in the cluster, under which address, and which ids are spent.
///
/// Ids are assigned here, in log order, so that two nodes that join at the same moment get different ones, and an id
/// is never used twice, not even after its node was removed.
final class DirectoryMachine: ReplicatedMachine {
    static let highestAssignableID = NodeID(1 << 48)
    static let heardIDDistanceMax: UInt64 = 1024

    private(set) var state: DirectoryState {
        didSet { addresses = FlatMap() }
    }
    /// Addresses of members as they were asked for, read from their texts: every message to a peer asks.
    private var addresses = FlatMap<NodeID, HostPort>()
    var plantedBugs: NodePlantedBugs = []

    init() { state = DirectoryState() }

    init(
        clusterID: String, firstNode: NodeID, address: String, groups: [GroupID], protocolLevel level: UInt32 = 1
    ) {
        state = DirectoryState(
            clusterID: clusterID, highestNodeID: firstNode,
            members: [DirectoryMember(nodeID: firstNode, address: address)], groupIDs: groups, protocolLevel: level)
    }

    func apply(_ payload: ArraySlice<UInt8>, _ entry: AppliedEntry) -> (result: AppliedResult, effects: [Effect]) {
        do throws(DecodingFailure) {
            return (.directory(apply(try DirectoryCommand(decoding: Array(payload)))), [])
        } catch {
            return (.undecodable(error.description), [])
        }
    }

    private func apply(_ command: DirectoryCommand) -> DirectoryResult {
        switch command {
        case .add(let add): return self.add(add)
        case .remove(let remove): return self.remove(remove.nodeID)
        case .setAddress(let change):
            guard let place = state.members.firstIndex(where: { $0.nodeID == change.nodeID }) else {
                return .unknownNode(change.nodeID)
            }
            state.members[place].address = change.address
            if change.protocolLevel > 0 { state.members[place].protocolLevel = change.protocolLevel }
            raiseProtocolLevel()
            return .done
        }
    }

    private func add(_ add: DirectoryCommand.Add) -> DirectoryResult {
        // The same request again, for example because its answer was lost: the same id.
        if !add.requestID.isEmpty, let place = state.members.firstIndex(where: { $0.requestID == add.requestID }) {
            // The joiner may have moved meanwhile. Once it is there, it announces its address itself.
            if state.members[place].protocolLevel == 0 { state.members[place].address = add.address }
            return .added(state.members[place].nodeID)
        }
        guard max(1, add.protocolLevel) >= state.protocolLevel else {
            return .protocolTooOld(needed: state.protocolLevel)
        }
        var id = add.nodeID == .none ? nextID(above: add.aboveNodeID) : add.nodeID
        if plantedBugs.contains(.reusesNodeIDs), let free = state.removedNodeIDs.popLast() { id = free }
        guard id <= Self.highestAssignableID else { return .idsExhausted }
        guard member(id) == nil, !state.removedNodeIDs.contains(id) else { return .idInUse(id) }
        state.highestNodeID = max(state.highestNodeID, id)
        state.members.append(DirectoryMember(nodeID: id, address: add.address, requestID: add.requestID))
        state.members.sort { $0.nodeID < $1.nodeID }
        return .added(id)
    }

    /// What a joiner heard elsewhere counts only when it is near to what the log says: one lying answer must not
    /// spend the whole range of ids.
    private func nextID(above heard: NodeID) -> NodeID {
        let highest = state.highestNodeID
        let floor = heard.rawValue <= highest.rawValue + Self.heardIDDistanceMax ? max(highest, heard) : highest
        return NodeID(floor.rawValue + 1)
    }

    private func remove(_ node: NodeID) -> DirectoryResult {
        guard let place = state.members.firstIndex(where: { $0.nodeID == node }) else {
            // Asked again, because the answer was lost.
            return isRemoved(node) ? .done : .unknownNode(node)
        }
        guard state.members.count > 1 else { return .lastNode }
        state.members.remove(at: place)
        state.removedNodeIDs.append(node)
        state.removedNodeIDs.sort()
        raiseProtocolLevel()
        return .done
    }

    /// To what every member that has been there knows. It never falls: what was written at a level stays in the logs.
    private func raiseProtocolLevel() {
        let known = state.members.map(\.protocolLevel).filter { $0 > 0 }.min() ?? 0
        state.protocolLevel = max(state.protocolLevel, known)
    }

    func isMember(_ node: NodeID) -> Bool { state.members.contains { $0.nodeID == node } }

    func member(_ node: NodeID) -> DirectoryMember? { state.members.first { $0.nodeID == node } }

    func address(of node: NodeID) -> HostPort? {
        if let known = addresses[node] { return known }
        let address = member(node).flatMap { HostPort($0.address) }
        addresses[node] = address
        return address
    }

    func isRemoved(_ node: NodeID) -> Bool { state.removedNodeIDs.contains(node) }

    func snapshot() -> [UInt8] { state.encoded() }

    func fill(_ batch: inout StateBatch) { batch.blob = snapshot() }

    var preparation: @Sendable (StoredState) throws(ImpossibleContent) -> PreparedState {
        { stored throws(ImpossibleContent) in
            guard let blob = stored.blob else { throw ImpossibleContent("no directory") }
            do throws(DecodingFailure) {
                return PreparedState(content: .directory(try DirectoryState(decoding: blob)))
            } catch {
                throw ImpossibleContent("a directory (\(error.description))")
            }
        }
    }

    func take(_ prepared: PreparedState) {
        guard case .directory(let state) = prepared.content else { invariantBroken("it was prepared for this group") }
        self.state = state
    }

    func restore(_ snapshot: [UInt8]) throws(MalformedBytes) {
        do {
            state = try DirectoryState(decoding: snapshot)
        } catch {
            throw MalformedBytes(offset: 0, expected: "a directory (\(error.description))")
        }
    }
}
