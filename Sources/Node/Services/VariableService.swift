import Prelude
import Wire
import Workflow

/// `raftoral.VariableService` on one node. Writes go through the log wherever they are asked for; reads ask the leader
/// whether this node is up to date, unless the caller takes a stale answer.
struct VariableService {
    let node: Node
    let group: RaftGroup

    func register(on server: GRPCServer) {
        server.unary(VariableServicePath.put, PutRequest.self) { call, request in put(call, request) }
        server.unary(VariableServicePath.get, GetRequest.self) { call, request in get(call, request) }
        server.unary(VariableServicePath.compareAndSwap, CompareAndSwapRequest.self) { call, request in
            compareAndSwap(call, request)
        }
        server.unary(VariableServicePath.delete, DeleteRequest.self) { call, request in delete(call, request) }
    }

    func put(_ call: any ServiceCall, _ request: PutRequest) {
        let put = Command.VariablePut(key: request.key, value: request.value, requestID: request.requestID)
        node.execute(.variablePut(put), in: group, for: call) { result in
            guard case .variable(let revision) = result else { return nil }
            return PutResponse(revision: revision).encoded()
        }
    }

    func get(_ call: any ServiceCall, _ request: GetRequest) {
        guard !request.key.isEmpty else { return call.fail(.invalidArgument, "key is empty") }
        node.read(group, stale: request.stale, for: call) { machine in
            guard let variable = machine.variable(request.key) else {
                return GetResponse(found: false, value: [], revision: 0).encoded()
            }
            return GetResponse(found: true, value: variable.value, revision: variable.revision).encoded()
        }
    }

    func compareAndSwap(_ call: any ServiceCall, _ request: CompareAndSwapRequest) {
        let swap = Command.VariableCompareAndSwap(
            key: request.key, expectedRevision: request.expectedRevision, value: request.value,
            requestID: request.requestID)
        node.execute(.variableCompareAndSwap(swap), in: group, for: call) { result in
            guard case .swapped(let swapped, let revision) = result else { return nil }
            return CompareAndSwapResponse(swapped: swapped, revision: revision).encoded()
        }
    }

    func delete(_ call: any ServiceCall, _ request: DeleteRequest) {
        let delete = Command.VariableDelete(key: request.key, requestID: request.requestID)
        node.execute(.variableDelete(delete), in: group, for: call) { result in
            guard case .deleted(let existed) = result else { return nil }
            return DeleteResponse(existed: existed).encoded()
        }
    }
}

extension Node {
    /// Puts a command through the log and answers the call with what `response` makes of the machine's result.
    func execute(
        _ command: Command, in group: RaftGroup, for call: any ServiceCall,
        response: @escaping (CommandResult) -> [UInt8]?
    ) {
        propose(command.encoded(), to: group) { outcome in
            switch outcome {
            case .failure(let failure): call.fail(failure)
            case .success(.workflow(let result)):
                if let bytes = response(result) { call.respond(bytes) } else { call.fail(result.status) }
            case .success(.undecodable(let reason)): call.fail(.internalError, reason)
            case .success(.directory): call.fail(.internalError, "answered by another machine")
            }
        }
    }

    /// Answers the call from this node's state: at once when a stale answer will do, else after a read barrier.
    func read(
        _ group: RaftGroup, stale: Bool, for call: any ServiceCall,
        response: @escaping (WorkflowMachine) throws(GRPCStatus) -> [UInt8]?
    ) {
        func answer() {
            guard let machine = group.workflowMachine else { return call.fail(.internalError, "not a workflow group") }
            do throws(GRPCStatus) {
                if let bytes = try response(machine) { call.respond(bytes) }
            } catch {
                call.fail(error)
            }
        }
        if stale { return answer() }
        readBarrier(group) { result in
            switch result {
            case .success: answer()
            case .failure(let failure): call.fail(failure)
            }
        }
    }
}
