import ArgumentParser
import FoundationEssentials
import Glibc
import Logging
import Raftoral

struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run a node (this is what raftoral does without a subcommand).")

    @Option(name: [.short, .long, .customLong("listen")], help: "Where to listen: HOST:PORT.")
    var address: HostPort

    @Flag(name: .shortAndLong, help: "Start a new cluster with this node as its first.")
    var bootstrap = false

    @Option(name: .shortAndLong, help: "Addresses of nodes of the cluster to join, separated by commas.")
    var peers: PeerList = PeerList(addresses: [])

    @Option(name: .shortAndLong, help: "The node's id. Assigned by the cluster when left out.")
    var nodeID: UInt64?

    @Option(help: "Where the node keeps its data. Default: a directory named after the address in ./raftoral-data.")
    var dataDir: String?

    @Flag(help: "Keep everything in memory: nothing survives the end of the process.")
    var inMemory = false

    @Option(help: "Where other nodes reach this one, when that differs from --address.")
    var advertiseAddress: HostPort?

    @Option(help: "Where to serve metrics, health and state over HTTP/1.1: HOST:PORT. Not served when left out.")
    var adminAddress: HostPort?

    @Option(help: "Seconds to keep asking --peers before giving up.")
    var discoveryTimeout: UInt64 = 30

    @Flag(
        help: """
            When the data of this node is damaged: leave the cluster of --peers as the node that it was, drop the data, \
            and join again under a new id. Sound data is never dropped.
            """)
    var repairFromPeers = false

    @OptionGroup(title: "TLS and access") var security: SecurityOptions

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: Logger.Level = .info

    @Option(help: "text or json. Logs go to standard error.")
    var logFormat: LogFormat = .text

    func validate() throws {
        if bootstrap, !peers.addresses.isEmpty {
            throw ValidationError("--bootstrap starts a new cluster and --peers joins one: give one of them.")
        }
        if nodeID == 0 { throw ValidationError("--node-id is from 1.") }
        if !(1...86_400).contains(discoveryTimeout) {
            throw ValidationError("--discovery-timeout is from 1 to 86400 seconds.")
        }
        if repairFromPeers, peers.addresses.isEmpty {
            throw ValidationError("--repair-from-peers fetches the data from --peers: name some.")
        }
        if inMemory, dataDir != nil { throw ValidationError("--in-memory keeps no data: leave --data-dir out.") }
    }

    func run() throws {
        LineLogHandler.install(level: logLevel, format: logFormat)
        let loop = try EventLoop()
        let seed = SystemRandomNumberGenerator.seed()
        let disk: any Disk = inMemory ? MemoryDisk() : FileDisk()
        let server = ServerProcess(
            loop: loop, seams: loop.seams(disk: disk, randomSeed: seed), configuration: configuration,
            adminAddress: adminAddress, securityFiles: security.files)
        let code = server.run()
        loop.close()
        if code != 0 { throw ExitCode(code) }
    }

    private var configuration: NodeConfiguration {
        var configuration = NodeConfiguration(
            address: address, dataDirectory: inMemory ? "/data" : dataDirectory, bootstrap: bootstrap,
            peers: peers.addresses, nodeID: nodeID.map { NodeID($0) }, advertisedAddress: advertiseAddress,
            discoveryTimeoutSeconds: discoveryTimeout, hostName: ProcessInfo.processInfo.hostName)
        configuration.repairsFromPeers = repairFromPeers
        return configuration
    }

    private var dataDirectory: String {
        dataDir ?? "raftoral-data/" + address.description.map { $0.isLetter || $0.isNumber || $0 == "." ? $0 : "-" }
    }
}

/// The life of `raftoral serve`: the node, and the signals that end it.
private final class ServerProcess {
    private let loop: EventLoop
    private var seams: Seams
    private var configuration: NodeConfiguration
    private let adminAddress: HostPort?
    private let securityFiles: SecurityFiles
    private var security: Security?
    private var admin: AdminServer?
    private var node: Node?
    private var exitCode: Int32 = 0
    private var isStopping = false
    private var signals: SignalWatch?
    private var reloads: SignalWatch?

    init(
        loop: EventLoop, seams: Seams, configuration: NodeConfiguration, adminAddress: HostPort?,
        securityFiles: SecurityFiles
    ) {
        self.adminAddress = adminAddress
        self.securityFiles = securityFiles
        self.loop = loop
        self.seams = seams
        self.configuration = configuration
    }

    /// Returns the exit code once the node has ended.
    func run() -> Int32 {
        signals = loop.onSignal([SIGINT, SIGTERM]) { [unowned self] _ in stopGracefully() }
        let bound = LoopBound(self, to: loop)
        loop.start { await bound.value.start() }
        loop.run()
        return exitCode
    }

    private func start() async {
        var registry = WorkflowRegistry()
        SampleWorkflows.register(in: &registry)
        var report = StartReport()
        guard startAdmin(), startSecurity() else { return }
        do throws(NodeError) {
            let node = try await Node.start(
                configuration, seams: seams, registry: registry, logger: Logger(label: "raftoral"),
                report: { report.print($0) })
            self.node = node
            admin?.node = node
            node.onStop = { [unowned self] reason in fail(reason) }
            security?.warnIfOpen(configuration.address)
            // Once the first answers are out: parsing of flags, joining and recovery are over.
            _ = loop.clock.schedule(after: .seconds(1)) { ProcessMemory.release() }
        } catch {
            fail(error)
        }
    }

    /// Before the node, so that whoever watches sees that it starts. False: it cannot, and the process ends.
    private func startAdmin() -> Bool {
        guard let adminAddress else { return true }
        do throws(NetworkError) {
            let admin = try AdminServer(on: loop, address: adminAddress, limits: configuration.limits.admin)
            self.admin = admin
            Console.out("📊 Admin server listening on http://\(admin.address)")
            return true
        } catch {
            fail(.cannotBindAdmin(error))
            return false
        }
    }

    /// False: it cannot be used, and the process ends.
    private func startSecurity() -> Bool {
        do throws(SecurityFailure) {
            let files = seams.disk is MemoryDisk ? FileDisk() : seams.disk
            let security = try Security(
                securityFiles, seams: seams, files: files, limits: configuration.limits,
                metrics: configuration.metrics, logger: Logger(label: "raftoral"))
            self.security = security
            seams = security.seams
            configuration.access = security.access
            if !securityFiles.isEmpty {
                reloads = loop.onSignal([SIGHUP]) { [unowned self] _ in self.security?.look() }
            }
            return true
        } catch {
            fail(.cannotSecure(error.description))
            return false
        }
    }

    private func fail(_ error: NodeError) {
        guard !isStopping else { return }
        Console.error("✗ \(error)")
        exitCode = 1
        end()
    }

    private func stopGracefully() {
        if isStopping { exit(130) }
        isStopping = true
        Console.out("🛑 Shutdown signal received, stopping gracefully...")
        guard let node else {
            // Still starting: nobody has been promised anything.
            Console.out("✓ Server stopped")
            exit(0)
        }
        let bound = LoopBound((process: self, node: node), to: loop)
        loop.start {
            await bound.value.node.shutdown()
            bound.value.process.finish()
        }
    }

    private func finish() {
        Console.out("✓ Server stopped")
        end()
    }

    private func end() {
        signals?.cancel()
        admin?.close()
        reloads?.cancel()
        security?.close()
        loop.stop()
    }
}

enum LogFormat: String, ExpressibleByArgument { case text, json }

extension Logger.Level: @retroactive ExpressibleByArgument {}

extension HostPort: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

/// `A,B,C`
struct PeerList: ExpressibleByArgument {
    var addresses: [HostPort]

    init(addresses: [HostPort]) { self.addresses = addresses }

    init?(argument: String) {
        addresses = []
        for part in argument.split(separator: ",") {
            let words = part.split(whereSeparator: \.isWhitespace)
            guard words.count == 1, let address = HostPort(String(words[0])) else { return nil }
            addresses.append(address)
        }
        if addresses.isEmpty { return nil }
    }

    var defaultValueDescription: String {
        addresses.isEmpty ? "none" : addresses.map(\.description).joined(separator: ",")
    }
}

extension SystemRandomNumberGenerator {
    static func seed() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}
