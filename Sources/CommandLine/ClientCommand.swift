import ArgumentParser
import FoundationEssentials
import Raftoral

/// What every client command takes.
struct ClientOptions: ParsableArguments {
    @Option(
        name: [.short, .long], help: "Nodes of the cluster, separated by commas; the nearest that answers is asked.")
    var address = PeerList(addresses: [HostPort(host: "127.0.0.1", port: 5001)])

    @Option(help: "table or json.")
    var output: OutputFormat = .table

    @OptionGroup(title: "TLS and access") var security: ClientSecurityOptions

    @Option(help: "Seconds to wait for an answer.")
    var timeout: UInt64 = 15

    func validate() throws {
        guard (1...86_400).contains(timeout) else {
            throw ValidationError("--timeout is from 1 to 86400 seconds.")
        }
    }
}

enum OutputFormat: String, ExpressibleByArgument { case table, json }

/// A command that asks a node something.
protocol ClientCommand: ParsableCommand {
    var options: ClientOptions { get }
    func run(_ client: ClusterClient) async throws(ClientFailure)
}

/// Why a client command failed, for people.
struct ClientFailure: Error {
    var text: String
    /// The same call may succeed a little later.
    var mayPass = false

    init(_ text: String) { self.text = text }

    private static func whereToLook(_ message: String) -> String {
        if message.hasPrefix("there is no workflow") || message.hasPrefix("there is no run") {
            return "\n  • 'raftoral workflow list' shows what there is."
        }
        return message.hasPrefix("there is no node") ? "\n  • 'raftoral cluster members' shows who there is." : ""
    }

    init(_ status: GRPCStatus, at addresses: [HostPort]) {
        let address = addresses.map(\.description).joined(separator: " or ")
        let hint =
            switch status.code {
            case .unavailable:
                "\n  • Check that a node runs at \(address); --address names another one."
                    + "\n  • 'raftoral cluster status' tells whether the cluster has a leader."
            case .deadlineExceeded: "\n  • The node did not answer in time: try again, or raise --timeout."
            case .notFound: Self.whereToLook(status.message)
            case .alreadyExists: "\n  • Choose another id, or leave it out to have one made."
            case .resourceExhausted: "\n  • The node has too much to do, or too little space: try again later."
            case .unauthenticated:
                "\n  • --token-file or RAFTORAL_TOKEN give a bearer token, --tls-cert a certificate."
            case .permissionDenied: "\n  • The node's --access-file says who may do what."
            default: ""
            }
        mayPass = status.code == .unavailable
        text = "\(status.message.isEmpty ? "\(status.code)" : status.message)\(hint)"
    }
}

/// Typed calls with the command's time limit.
struct ClusterClient {
    let seams: Seams
    let options: ClientOptions
    private let channel: ClusterChannel

    init(seams: Seams, options: ClientOptions) {
        self.seams = seams
        self.options = options
        var limits = Limits()
        // Of several nodes one is there, or soon will be; a single one that is not there is a mistake to be told at once.
        limits.client.retryMilliseconds = options.address.addresses.count > 1 ? options.timeout * 1000 : 0
        channel = ClusterChannel(peers: options.address.addresses, seams: seams, limits: limits)
    }

    /// With `waits`, for as long as it takes. `kind`: every command is recognised by the cluster when it is repeated.
    func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, kind: CallKind = .read, waits: Bool = false
    ) async throws(ClientFailure) -> Response {
        do throws(GRPCStatus) {
            return try await channel.call(
                path, request, response, kind: kind, timeout: waits ? nil : .seconds(options.timeout))
        } catch {
            throw ClientFailure(error, at: options.address.addresses)
        }
    }

    /// A call to this one node, which gets `timeout` seconds.
    func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, at address: HostPort, timeout: UInt64
    ) async throws(ClientFailure) -> Response {
        let client = NodeClient(
            seams: seams, limits: Limits().wire, target: address, random: SeededRandom(seed: seams.randomSeed))
        defer { client.close() }
        do throws(GRPCStatus) {
            return try await client.call(path, request, response, timeout: .seconds(timeout))
        } catch {
            throw ClientFailure(error, at: [address])
        }
    }
}

extension ClusterClient {
    func pause(_ time: Nanoseconds) async {
        await withCheckedContinuation { continuation in
            _ = seams.clock.schedule(after: time) { continuation.resume() }
        }
    }
}

extension ClientCommand {
    func run() throws {
        let loop = try EventLoop()
        let plain = loop.seams(disk: FileDisk(), randomSeed: SystemRandomNumberGenerator.seed())
        let seams: Seams
        do {
            seams = try options.security.applied(to: plain)
        } catch {
            loop.close()
            Console.error("✗ \(error)")
            throw ExitCode(1)
        }
        let work = LoopBound((command: self, client: ClusterClient(seams: seams, options: options)), to: loop)
        let outcome = Outcome()
        let result = LoopBound(outcome, to: loop)
        loop.start {
            do throws(ClientFailure) {
                try await work.value.command.run(work.value.client)
            } catch {
                result.value.failure = error
            }
            loop.stop()
        }
        loop.run()
        loop.close()
        if let failure = outcome.failure {
            Console.error("✗ \(failure.text)")
            throw ExitCode(1)
        }
    }
}

private final class Outcome { var failure: ClientFailure? }
