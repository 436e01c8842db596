import Prelude
import Wire

/// What may be done about a call that failed.
public enum CallKind: Sendable {
    /// Any node answers as well as the nearest; repeated at will.
    case read
    /// Repeated at will, because the request carries an id by which the cluster knows it again.
    case write
    /// Not repeated once it may have been received.
    case once
}

/// Typed calls to a cluster through any of its nodes, over at most one connection to each.
///
/// Peers are names or addresses; a name that stands for several addresses is several peers, and names are asked again
/// every `ClientLimits.resolveMilliseconds`. The nearest healthy peer is asked, for writes the leader when it is known;
/// one that does not answer rests, and the call goes to the next, until its deadline.
///
/// Confined to its loop.
public final class ClusterChannel {
    public let peers: [HostPort]
    private let seams: Seams
    private let limits: Limits
    private var set: PeerSet
    private var random: SeededRandom
    private var clients: [HostPort: NodeClient] = [:]
    private var resolvedAt: Nanoseconds?
    private var askedAt: Nanoseconds?
    private var isAsking = false
    /// Calls that wait for the first peer to answer, by their numbers.
    private var waiting: [UInt64: PendingCall] = [:]
    private var callNumber: UInt64 = 0
    private var openCallCount = 0
    private var isClosed = false

    /// `peers` must not be empty.
    public init(peers: [HostPort], seams: Seams, limits: Limits = Limits()) {
        invariant(!peers.isEmpty, "a cluster is reached through at least one peer")
        self.peers = peers
        self.seams = seams
        self.limits = limits
        random = SeededRandom(seed: seams.randomSeed ^ 0xC11E_47C0)
        set = PeerSet(limits: limits.client, random: SeededRandom(seed: random.next()))
    }

    /// `completion` runs once, never before this call has returned: with the answer, or with the status of the last
    /// attempt. `timeout` counts from now, whatever the call waits for. Nil: waits as long as it takes (the end of a
    /// run); attempts that fail are still repeated for `ClientLimits.retryMilliseconds` only. With
    /// `ClientLimits.openCallCountMax` calls open it fails with RESOURCE_EXHAUSTED.
    public func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, kind: CallKind, timeout: Nanoseconds?,
        metadata: Metadata = Metadata(), completion: @escaping (Result<Response, GRPCStatus>) -> Void
    ) {
        let now = seams.clock.now
        let call = PendingCall(
            kind: kind, deadline: timeout.map { now + $0 },
            retriesUntil: now + min(timeout ?? .max / 2, .milliseconds(limits.client.retryMilliseconds)))
        call.send = { [unowned self] peer, timeout, done in
            client(peer).call(path, request, response, metadata: metadata, timeout: timeout) { result, wasSent in
                switch result {
                case .success: done(nil) { completion(result) }
                case .failure(let status):
                    done(AttemptFailure(status: status, wasSent: wasSent)) { completion(result) }
                }
            }
        }
        call.fail = { completion(.failure($0)) }
        admit(call)
    }

    public func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, kind: CallKind, timeout: Nanoseconds?,
        metadata: Metadata = Metadata()
    ) async throws(GRPCStatus) -> Response {
        let result = await withCheckedContinuation { continuation in
            call(path, request, response, kind: kind, timeout: timeout, metadata: metadata) {
                continuation.resume(returning: $0)
            }
        }
        return try result.get()
    }

    /// Calls that are open fail with UNAVAILABLE.
    public func close() {
        isClosed = true
        release()
        for client in clients.values { client.close() }
        clients = [:]
    }

    // MARK: - One call

    private func admit(_ call: PendingCall) {
        guard openCallCount < limits.client.openCallCountMax else {
            let refusal = GRPCStatus(
                .resourceExhausted,
                "\(openCallCount) calls of this client are open already: wait for some of them, then call again")
            _ = seams.clock.schedule(after: 0) { call.fail(refusal) }
            return
        }
        openCallCount += 1
        call.ended = { [weak self] in self?.openCallCount -= 1 }
        if set.peers.contains(where: { $0.latency != nil }) || isClosed {
            _ = seams.clock.schedule(after: 0) { [self] in attempt(call) }
        } else {
            wait(call)
        }
        askLater()
    }

    /// Until a peer has answered, or all have failed to, or the call's time is over.
    private func wait(_ call: PendingCall) {
        callNumber += 1
        let number = callNumber
        waiting[number] = call
        guard let deadline = call.deadline else { return }
        call.timer = seams.clock.schedule(after: deadline - min(deadline, seams.clock.now)) { [self] in
            guard waiting.removeValue(forKey: number) != nil else { return }
            let names = peers.map(\.description).joined(separator: ", ")
            call.end(GRPCStatus(.deadlineExceeded, "\(names): no node has answered, or no name was resolved, in time"))
        }
    }

    private func attempt(_ call: PendingCall) {
        let now = seams.clock.now
        guard !isClosed else { return call.end(GRPCStatus(.unavailable, "the channel to the cluster was closed")) }
        if let deadline = call.deadline, deadline <= now { return call.giveUp() }
        guard let peer = set.next(prefersLeader: call.kind == .write, tried: call.tried, now: now) else {
            return pause(call)
        }
        call.tried.insert(peer)
        call.send(peer, timeout(of: call, now)) { [weak self] failure, conclude in
            guard let self, let failure else {
                self?.set.succeeded(peer)
                return call.end(conclude)
            }
            call.lastFailure = failure.status
            note(failure, of: peer, since: now, call)
            if isRepeated(call, after: failure) { attempt(call) } else { call.end(conclude) }
        }
    }

    /// A peer that says nothing must not use up the whole time of a call that another could answer.
    private func timeout(of call: PendingCall, _ now: Nanoseconds) -> Nanoseconds? {
        guard let deadline = call.deadline else { return nil }
        let isAlone = call.kind == .once || set.peers.count == 1
        return isAlone ? deadline - now : min(deadline - now, .milliseconds(limits.client.attemptMilliseconds))
    }

    private func note(_ failure: AttemptFailure, of peer: HostPort, since began: Nanoseconds, _ call: PendingCall) {
        let now = seams.clock.now
        if failure.status.code == .unavailable || failure.status.code == .deadlineExceeded {
            set.failed(peer, now: now)
            askLater()
        }
        // It was well for a long time: whoever failed before that may be well again.
        guard now - began > .milliseconds(limits.client.attemptMilliseconds) else { return }
        call.tried = [peer]
        call.retriesUntil = now + .milliseconds(limits.client.retryMilliseconds)
    }

    private func isRepeated(_ call: PendingCall, after failure: AttemptFailure) -> Bool {
        guard !isClosed else { return false }
        switch (call.kind, failure.status.code) {
        case (.once, .unavailable): return !failure.wasSent
        case (.read, .unavailable), (.read, .resourceExhausted), (.write, .unavailable), (.write, .resourceExhausted):
            return true
        // Of the attempt, not of the call.
        case (.read, .deadlineExceeded), (.write, .deadlineExceeded):
            return call.deadline.map { seams.clock.now < $0 } ?? false
        default: return false
        }
    }

    /// All were tried: from the beginning, after a while, if there is time left for that.
    private func pause(_ call: PendingCall) {
        let longest = Nanoseconds.milliseconds(limits.client.retryPauseMillisecondsMax)
        let step = min(
            Nanoseconds.milliseconds(limits.client.retryPauseMillisecondsMin) << min(call.pauseCount, 16), longest)
        let pause = step / 2 + UInt64.random(in: 0...step, using: &random)
        guard seams.clock.now + pause < call.retriesUntil else { return call.giveUp() }
        call.pauseCount += 1
        call.tried = []
        _ = seams.clock.schedule(after: pause) { [self] in attempt(call) }
    }

    private func client(_ peer: HostPort) -> NodeClient {
        if let client = clients[peer] { return client }
        let client = NodeClient(
            seams: seams, limits: limits.wire, target: peer, random: SeededRandom(seed: random.next()))
        clients[peer] = client
        return client
    }

    // MARK: - Who there is

    /// Asks all peers who they are, unless that was done a short while ago.
    private func askLater() {
        let now = seams.clock.now
        let isFresh = askedAt.map { now < $0 + .milliseconds(limits.client.askMilliseconds) } ?? false
        guard !isAsking, !isClosed, !(isFresh && waiting.isEmpty) else { return }
        isAsking = true
        askedAt = now
        resolve { [self] in ask() }
    }

    private func resolve(_ done: @escaping () -> Void) {
        let now = seams.clock.now
        if let resolvedAt, now < resolvedAt + .milliseconds(limits.client.resolveMilliseconds) { return done() }
        resolvedAt = now
        var isAnswered = false
        // A resolver may hang: then the names themselves are the peers, and whoever connects is told why.
        let timer = seams.clock.schedule(after: .milliseconds(limits.client.attemptMilliseconds)) { [self] in
            guard !isAnswered else { return }
            isAnswered = true
            if set.peers.isEmpty, !isClosed { adopt(peers) }
            done()
        }
        seams.network.resolveAll(peers) { [weak self] addresses in
            timer.cancel()
            guard let self else { return }
            if !isClosed { adopt(addresses) }
            if !isAnswered { done() }
            isAnswered = true
        }
    }

    private func adopt(_ addresses: [HostPort]) {
        set.replace(with: addresses)
        let kept = Set(set.addresses)
        for (address, client) in clients where !kept.contains(address) {
            client.close()
            clients[address] = nil
        }
    }

    private func ask() {
        let addresses = set.addresses
        var left = addresses.count
        for address in addresses {
            let began = seams.clock.now
            client(address).call(
                RaftServicePath.discover, DiscoveryRequest(), DiscoveryResponse.self,
                timeout: Discovery.attemptTimeout
            ) { [weak self] result in
                guard let self else { return }
                switch result {
                case .success(let answer):
                    let leader = HostPort(answer.leaderAddress)
                    set.answered(
                        address, as: answer.nodeID, after: seams.clock.now - began, leader: leader,
                        leaderNode: answer.leaderNodeID)
                    release()
                case .failure: set.failed(address, now: seams.clock.now)
                }
                left -= 1
                if left == 0 { asked() }
            }
        }
        if left == 0 { asked() }
    }

    private func asked() {
        isAsking = false
        // Nobody answered: the calls find that out for themselves, and repeat what may be repeated.
        release()
    }

    private func release() {
        let calls = waiting.sorted { $0.key < $1.key }.map(\.value)
        waiting = [:]
        for call in calls {
            call.timer?.cancel()
            attempt(call)
        }
    }
}

private struct AttemptFailure {
    var status: GRPCStatus
    /// The node may have received the request.
    var wasSent: Bool
}

/// A call between its attempts.
private final class PendingCall {
    let kind: CallKind
    let deadline: Nanoseconds?
    var retriesUntil: Nanoseconds
    var tried: Set<HostPort> = []
    var pauseCount: UInt64 = 0
    var lastFailure: GRPCStatus?
    /// Sends it to a peer; tells how the attempt ended, and how the whole call ends if that is the end.
    var send: (HostPort, Nanoseconds?, @escaping (AttemptFailure?, _ conclude: () -> Void) -> Void) -> Void = {
        _, _, _ in
    }
    var fail: (GRPCStatus) -> Void = { _ in }
    var timer: (any ScheduledTimer)?
    /// Told once, before whoever called.
    var ended: () -> Void = {}

    func giveUp() { end(lastFailure ?? GRPCStatus(.deadlineExceeded, "no node answered in time")) }

    func end(_ status: GRPCStatus) { end { fail(status) } }

    func end(_ conclude: () -> Void) {
        ended()
        conclude()
    }

    init(kind: CallKind, deadline: Nanoseconds?, retriesUntil: Nanoseconds) {
        self.kind = kind
        self.deadline = deadline
        self.retriesUntil = retriesUntil
    }
}

extension Network {
    /// What all the names stand for now, each address once. A name that stands for one address stays itself, so that
    /// errors tell it; so does one that cannot be resolved: whoever connects is told why.
    func resolveAll(_ names: [HostPort], completion: @escaping ([HostPort]) -> Void) {
        var found = [[HostPort]](repeating: [], count: names.count)
        var left = names.count
        if names.isEmpty { return completion([]) }
        for (place, name) in names.enumerated() {
            resolve(name) { result in
                // The other family names the same machines once more.
                let all = (try? result.get()) ?? []
                let addresses = all.filter { $0.isIPv6 == all[0].isIPv6 }
                found[place] = addresses.count > 1 ? addresses : [name]
                left -= 1
                guard left == 0 else { return }
                var seen: Set<HostPort> = []
                completion(found.joined().filter { seen.insert($0).inserted })
            }
        }
    }
}

extension HostPort {
    fileprivate var isIPv6: Bool { host.contains(":") }
}
