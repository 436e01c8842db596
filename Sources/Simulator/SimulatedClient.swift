import Node
import Prelude
import Wire
import Workflow

/// A program on a machine of its own that starts workflows, waits for their results, and reads and writes variables,
/// through whichever node it happens to ask. One operation at a time; a second of them per client runs at the same time.
final class SimulatedClient {
    let number: Int
    let host: String
    let log: EventLog
    private unowned let simulation: Simulation
    private let loop: SimulatedLoop
    private let seams: Seams
    private var random: SeededRandom
    private var connections: [String: NodeClient] = [:]
    private var isAsking = true
    private var busyCount = 0
    private var openRunCount = 0
    private var waitingStartCount = 0
    private var operationCount = 0

    /// What the client saw of the variables.
    private(set) var history: [RegisterOperation] = []
    private var workflows: [StartedWorkflow] = []
    /// The revisions that the client has seen, for compare-and-swap.
    private var seenRevisions: [String: UInt64] = [:]

    private struct StartedWorkflow {
        let workflow: SimulatedWorkflow
        let id: String
        let input: String
        let requestID: String
        /// Nil until the start is acknowledged.
        var run: RunID?
        /// Nil until the result is.
        var result: GetWorkflowResultResponse?
    }

    private static let callTimeout = Nanoseconds.seconds(4)

    init(number: Int, simulation: Simulation) {
        self.number = number
        self.simulation = simulation
        host = "c\(number + 1)"
        log = EventLog(world: simulation.world)
        random = simulation.world.random("client \(number)")
        loop = SimulatedLoop(world: simulation.world, host: host)
        loop.promptTurnsPerMille = simulation.profile.promptTurnsPerMille
        let interface = simulation.network.interface(of: loop)
        seams = loop.seams(
            network: interface, disk: MachineDisk(.init(), liesAboutSync: false), randomSeed: random.next())
    }

    // MARK: - Life

    func begin() {
        loop.deliver { [unowned self] in
            thinkAboutWorkflows()
            if simulation.options.usesVariables { thinkAboutVariables() }
        }
    }

    /// Begins nothing more; what is under way is brought to its end.
    func stopAsking() { isAsking = false }

    var isIdle: Bool { !isAsking && busyCount == 0 }

    var waitingFor: String? {
        guard !isIdle else { return nil }
        let open = workflows.filter { $0.result == nil }.map {
            "\($0.id) (\($0.run.map(\.description) ?? "not started"))"
        }
        return "\(host) waits for \(busyCount) operations, and for \(open.joined(separator: ", "))"
    }

    func end() {
        loop.crash(endWork: { _ in }) {
            for connection in connections.sorted(by: { $0.key < $1.key }) { connection.value.close() }
        }
        connections = [:]
    }

    private func after(_ milliseconds: UInt64, _ action: @escaping () -> Void) {
        _ = seams.clock.schedule(after: .milliseconds(milliseconds), action)
    }

    private func think(_ next: @escaping () -> Void) {
        let mean = simulation.profile.thinkMilliseconds
        after(random.draw(1...2 * mean)) { [unowned self] in
            if isAsking { next() }
        }
    }

    /// A connection to any node that may be there.
    private func anyNode() -> NodeClient? {
        let hosts = simulation.members.filter { $0.state != .empty && $0.state != .removed }.map(\.address)
        guard let target = random.pick(hosts) else { return nil }
        if let known = connections[target.description] { return known }
        let client = NodeClient(
            seams: seams, limits: WireLimits(), target: target, random: SeededRandom(seed: random.next()))
        connections[target.description] = client
        return client
    }

    /// Calls one node after the other until one answers with something that is not passing.
    private func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ type: Response.Type, attempts: Int = .max,
        completion: @escaping (Result<Response, GRPCStatus>) -> Void
    ) {
        guard let node = anyNode() else { return }
        node.call(path, request, type, timeout: Self.callTimeout) { [unowned self] result in
            if case .failure(let status) = result, Self.isPassing(status), attempts > 1 {
                after(random.draw(10...500)) { [unowned self] in
                    call(path, request, type, attempts: attempts - 1, completion: completion)
                }
                return
            }
            completion(result)
        }
    }

    private static func isPassing(_ status: GRPCStatus) -> Bool {
        switch status.code {
        case .unavailable, .deadlineExceeded, .resourceExhausted, .aborted, .cancelled: true
        default: false
        }
    }

    // MARK: - Workflows

    private func thinkAboutWorkflows() {
        guard waitingStartCount == 0 else { return }
        waitingStartCount += 1
        think { [unowned self] in
            waitingStartCount -= 1
            startWorkflow()
        }
    }

    private func startWorkflow() {
        guard let workflow = random.pick(simulation.options.workflows) else { return }
        operationCount += 1
        let id = "wf-\(host)-\(operationCount)"
        let place = workflows.count
        let started = StartedWorkflow(
            workflow: workflow, id: id, input: workflow.input(random.next()), requestID: "r-\(id)")
        workflows.append(started)
        busyCount += 1
        openRunCount += 1
        simulation.statistics.workflowsStarted += 1
        let request = StartWorkflowRequest(
            workflowID: id, type: workflow.type, input: Payload(data: Array(started.input.utf8)),
            requestID: started.requestID)
        call(WorkflowServicePath.start, request, StartWorkflowResponse.self) { [unowned self] result in
            switch result {
            case .failure(let status):
                simulation.checker.fail("a start is accepted", "\(id): \(status.code) \(status.message)")
            case .success(let response):
                workflows[place].run = response.runID
                awaitResult(place, response.runID)
            }
        }
        // Now and then more than one at a time.
        if openRunCount < 4, random.chance(perMille: 500) { thinkAboutWorkflows() }
    }

    private func awaitResult(_ place: Int, _ run: RunID) {
        let request = GetWorkflowResultRequest(workflowID: "", runID: run)
        call(WorkflowServicePath.result, request, GetWorkflowResultResponse.self) { [unowned self] result in
            switch result {
            case .failure(let status):
                simulation.checker.fail(
                    "nothing acknowledged is lost", "result of \(workflows[place].id): \(status.code) \(status.message)"
                )
            case .success(let response):
                workflows[place].result = response
                simulation.statistics.workflowsEnded += 1
                judge(workflows[place], response)
                busyCount -= 1
                openRunCount -= 1
                thinkAboutWorkflows()
            }
        }
    }

    private func judge(_ started: StartedWorkflow, _ response: GetWorkflowResultResponse) {
        guard let run = started.run else { return }
        let result = response.result.map { String(decoding: $0.data, as: UTF8.self) }
        let answer = response.status == .completed ? result : nil
        if let problem = started.workflow.problem(started.input, answer, run, simulation.effects) {
            simulation.checker.fail(
                "a workflow's result is right",
                "\(started.workflow.type) \(started.input), run \(run), \(response.status), "
                    + "\(result ?? response.failure): \(problem)")
        }
    }

    /// Every acknowledged workflow is there, once, with the result that its client got.
    func checkWorkflows(_ machine: WorkflowMachine) {
        for started in workflows {
            guard let id = started.run else { continue }
            guard let run = machine.run(id), run.workflowID == started.id else {
                simulation.checker.fail("nothing acknowledged is lost", "\(started.id), run \(id), is gone")
                return
            }
            if let newest = machine.newestRun(workflowID: started.id), newest.id != id {
                simulation.checker.fail("a request starts one run", "\(started.id) has the runs \(id) and \(newest.id)")
            }
            guard let seen = started.result else { continue }
            if run.status != seen.status || run.result != seen.result || run.failure != seen.failure {
                simulation.checker.fail(
                    "an ended workflow stays as it is", "\(started.id), run \(id): \(run.status), was \(seen.status)")
            }
        }
    }

    // MARK: - Variables

    private func thinkAboutVariables() {
        think { [unowned self] in useVariable() }
    }

    private func useVariable() {
        operationCount += 1
        let key = "v\(random.draw(1...4))"
        let value = "\(host)-\(operationCount)"
        busyCount += 1
        simulation.statistics.variableOperations += 1
        switch random.draw(0...9) {
        case 0...4: get(key)
        case 5...6: put(key, value)
        case 7...8: swap(key, value)
        default: delete(key)
        }
    }

    private func note(
        _ key: String, _ action: RegisterOperation.Action, _ called: Nanoseconds, _ outcome: RegisterOperation.Outcome?
    ) {
        let world = simulation.world
        // A client that does not know what became of its operation goes on under another name.
        history.append(
            RegisterOperation(
                client: number, key: key, action: action, called: called, returned: outcome == nil ? nil : world.now,
                outcome: outcome))
        if outcome == nil { simulation.statistics.unknownOutcomes += 1 }
        busyCount -= 1
        thinkAboutVariables()
    }

    private func get(_ key: String) {
        let called = simulation.world.now
        call(VariableServicePath.get, GetRequest(key: key), GetResponse.self, attempts: 1) { [unowned self] result in
            guard case .success(let response) = result else { return note(key, .get, called, nil) }
            seenRevisions[key] = response.revision
            let value = response.found ? String(decoding: response.value, as: UTF8.self) : nil
            note(key, .get, called, .read(value, revision: response.revision))
        }
    }

    /// Writes without a request id are asked for once: the node repeats its proposal by itself where it has to, and the
    /// write must take effect once all the same.
    private func drawAttempts() -> Int { random.chance(perMille: 400) ? 1 : random.draw(2...4) }

    private func requestID(_ text: String, attempts: Int) -> String { attempts == 1 ? "" : text }

    private func put(_ key: String, _ value: String) {
        let called = simulation.world.now
        let attempts = drawAttempts()
        let request = PutRequest(
            key: key, value: Array(value.utf8), requestID: requestID("p-\(value)", attempts: attempts))
        call(VariableServicePath.put, request, PutResponse.self, attempts: attempts) {
            [unowned self] result in
            let outcome = (try? result.get()).map { RegisterOperation.Outcome.written(revision: $0.revision) }
            note(key, .put(value), called, outcome)
        }
    }

    private func swap(_ key: String, _ value: String) {
        let called = simulation.world.now
        let expected = seenRevisions[key] ?? 0
        let attempts = drawAttempts()
        let request = CompareAndSwapRequest(
            key: key, expectedRevision: expected, value: Array(value.utf8),
            requestID: requestID("s-\(value)", attempts: attempts))
        call(VariableServicePath.compareAndSwap, request, CompareAndSwapResponse.self, attempts: attempts) {
            [unowned self] result in
            let answer = try? result.get()
            if let answer { seenRevisions[key] = answer.revision }
            note(
                key, .compareAndSwap(expected: expected, value), called,
                answer.map { .swapped($0.swapped, revision: $0.revision) })
        }
    }

    private func delete(_ key: String) {
        let called = simulation.world.now
        let attempts = drawAttempts()
        let request = DeleteRequest(
            key: key, requestID: requestID("d-\(host)-\(operationCount)", attempts: attempts))
        call(VariableServicePath.delete, request, DeleteResponse.self, attempts: attempts) {
            [unowned self] result in
            note(key, .delete, called, (try? result.get()).map { .deleted(existed: $0.existed) })
        }
    }
}
