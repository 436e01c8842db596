// Time, randomness, disk and network are inputs. These protocols are the only ways by which a node touches
// the world: the Reactor implements them over libuv, the simulator over a seed.
//
// Everything here but `Disk` and `DiskFile` is confined to the thread of one event loop.

/// A point or span on a monotonic clock, in nanoseconds.
public typealias Nanoseconds = UInt64

extension Nanoseconds {
    @inlinable public static func milliseconds(_ count: UInt64) -> Nanoseconds { count * 1_000_000 }
    @inlinable public static func seconds(_ count: UInt64) -> Nanoseconds { count * 1_000_000_000 }
}

public protocol Clock: AnyObject {
    /// Monotonic; only differences mean anything. Cached per loop turn.
    var now: Nanoseconds { get }
    /// Unix time in milliseconds. May jump.
    var wallMilliseconds: Int64 { get }
    /// Runs `action` on the loop once `delay` has passed, never before this call has returned.
    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer
}

public protocol ScheduledTimer: AnyObject {
    /// After this the action does not run any more. Harmless when it ran already.
    func cancel()
}

/// Lets a server act once per turn of the loop, after all callbacks of that turn have filled its inboxes.
public protocol Turns: AnyObject {
    /// Registers a participant. `turn` runs at the end of each loop turn in which `request()` was called on the
    /// returned value; requests made inside `turn` lead to another turn without waiting for events.
    ///
    /// In one turn each requested participant runs at most once, in the order of registration. A request, made
    /// inside a turn, for a participant whose place is still to come joins that turn: who produces output
    /// registers before who flushes it.
    func register(_ turn: @escaping () -> Void) -> any TurnRequest
}

public protocol TurnRequest: AnyObject {
    func request()
    func unregister()
}

/// Runs what would block on other threads.
public protocol Work: AnyObject {
    /// Runs `body` off the loop, then `completion` on the loop with what it returned. Bodies may run at the
    /// same time and end in any order.
    func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void)
}

/// Runs Swift concurrency's jobs on the loop. Start tasks with `Task(executorPreference:)`.
public typealias LoopExecutor = SerialExecutor & TaskExecutor

// MARK: - Network

/// Where to listen or connect: a host name or address literal (IPv6 without brackets), and a port.
public struct HostPort: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: UInt16

    public init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Parses `HOST:PORT` or `[IPV6]:PORT`; nil when `text` is neither.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty, !host.contains(where: { $0.isWhitespace || $0 == "/" }) else { return nil }
        self.init(host: String(host), port: port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

public enum NetworkError: Error, Equatable, Sendable {
    case addressInUse(HostPort)
    case permissionDenied(HostPort)
    case cannotResolve(String, reason: String)
    case cannotListen(HostPort, reason: String)
    case cannotConnect(HostPort, reason: String)
    case timedOut(HostPort)
    /// The other side ended the connection in order.
    case endOfStream
    /// The connection broke: reset, unreachable, or failed in another way.
    case broken(reason: String)
    /// This side closed it.
    case closedLocally
}

extension NetworkError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .addressInUse(let address): "\(address) is in use"
        case .permissionDenied(let address): "no permission for \(address)"
        case .cannotResolve(let host, let reason): "cannot resolve \(host): \(reason)"
        case .cannotListen(_, let reason), .cannotConnect(_, let reason), .broken(let reason): reason
        case .timedOut: "timed out"
        case .endOfStream: "closed by the other side"
        case .closedLocally: "closed"
        }
    }
}

public protocol Network: AnyObject {
    /// Binds and listens; port 0 takes a free one, to be read back from the listener. The connections handed to
    /// `accept` are open and read nothing until they get a handler.
    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener

    /// Asks which addresses the name stands for now; a literal stands for itself. Completes once, never before this
    /// call has returned.
    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void)

    /// Resolves the name, tries its addresses in turn, and completes once, never before this call has returned.
    func connect(
        to address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void)
}

public protocol Listener: AnyObject {
    var address: HostPort { get }
    /// Stops accepting. Open connections live on.
    func close()
}

/// An open, ordered, reliable stream of bytes.
public protocol Connection: AnyObject {
    /// The other side's address literal and port.
    var remoteAddress: HostPort { get }
    /// Set once, directly after the connection was handed over; reading begins then. Held strongly until closed.
    var handler: (any ConnectionHandler)? { get set }
    /// Takes all of `bytes`: what the system does not take at once is copied and sent later. Ignored when closed.
    /// A failure shows in `connectionDidClose`, never before this call has returned, and after what had arrived.
    func write(_ bytes: UnsafeRawBufferPointer)
    /// Bytes taken by `write` and not yet by the system.
    var bufferedByteCount: Int { get }
    /// Stops or resumes calls of `connectionDidRead`: back-pressure to the sender.
    var isReadingPaused: Bool { get set }
    /// Sends what is buffered, then closes; reads nothing more. `connectionDidClose` follows. A side that takes
    /// nothing for a while is cut off.
    func closeAfterFlush()
    /// Closes at once and drops what is buffered. `connectionDidClose` follows, never before this call has returned.
    func close()
}

public protocol ConnectionHandler: AnyObject {
    /// `bytes` is valid during the call only.
    func connectionDidRead(_ bytes: UnsafeRawBufferPointer)
    /// `bufferedByteCount` has come down to 0 after a `write` had left something in it.
    func connectionDidDrain()
    /// Called exactly once; nothing follows.
    func connectionDidClose(_ reason: NetworkError)
}

// MARK: - Disk

public struct DiskError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Sendable { case noSpace, notFound, exists, permissionDenied, locked, io }
    public var kind: Kind
    /// What was done, as a verb: "open", "write", …
    public var operation: String
    public var path: String
    public var reason: String

    public init(kind: Kind, operation: String, path: String, reason: String) {
        self.kind = kind
        self.operation = operation
        self.path = path
        self.reason = reason
    }

    public var description: String { "cannot \(operation) \(path): \(reason)" }
}

/// Blocking file operations. Called from work items, or from the loop before it serves anyone.
public protocol Disk: AnyObject, Sendable {
    /// Creates the directory and those above it. Harmless when it exists.
    func createDirectory(_ path: String) throws(DiskError)
    /// The names in a directory, sorted, without `.` and `..`.
    func list(_ directory: String) throws(DiskError) -> [String]
    func open(_ path: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile
    /// Atomic replacement. Durable only after `synchronizeDirectory`.
    func rename(_ from: String, to: String) throws(DiskError)
    func remove(_ path: String) throws(DiskError)
    /// Makes creations, renames and removals in `directory` durable.
    func synchronizeDirectory(_ directory: String) throws(DiskError)
    /// Takes an exclusive lock that lives as long as the returned value and dies with the process.
    func lock(_ path: String) throws(DiskError) -> any DiskLock
    func availableByteCount(_ directory: String) throws(DiskError) -> UInt64
}

public enum DiskOpenMode: Sendable {
    case readOnly
    case readWrite
    /// Creates the file; fails with `.exists` when there is one.
    case createNew
}

public protocol DiskFile: AnyObject, Sendable {
    var byteCount: UInt64 { get throws(DiskError) }
    /// Reads up to `buffer.count` bytes; fewer only at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
    /// Writes all of `bytes` or throws; after a throw any part may have been written.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError)
    /// fdatasync. After a throw nothing may be assumed about what was written since the last success.
    func synchronizeData() throws(DiskError)
    func truncate(to byteCount: UInt64) throws(DiskError)
    /// From now on, writes of whole units (`DiskUnit`) go to the disk past the system's memory where that is possible.
    /// Everything else is as before. Called once, before anything is written.
    func preferDirectWrites()
    func close()
}

extension DiskFile {
    public func preferDirectWrites() {}
}

/// What a disk can be written in past the system's memory: offset, length and address of a write are multiples of it.
public enum DiskUnit {
    public static let byteCount = 4096

    public static func floor(_ offset: UInt64) -> UInt64 { offset / UInt64(byteCount) * UInt64(byteCount) }

    /// Precondition: there is room for it below 2^64.
    public static func ceiling(_ offset: UInt64) -> UInt64 { floor(offset + UInt64(byteCount) - 1) }
}

public protocol DiskLock: AnyObject, Sendable {
    func unlock()
}

/// All seams of one node.
public struct Seams {
    public var clock: any Clock
    public var turns: any Turns
    public var work: any Work
    public var network: any Network
    public var disk: any Disk
    public var executor: any LoopExecutor
    /// Seeds everything random in the node.
    public var randomSeed: UInt64
    /// What this process says of itself with every call that it makes: names and values of metadata. Never logged.
    public var credentials: [(name: String, value: String)] = []

    public init(
        clock: any Clock, turns: any Turns, work: any Work, network: any Network, disk: any Disk,
        executor: any LoopExecutor, randomSeed: UInt64
    ) {
        self.clock = clock
        self.turns = turns
        self.work = work
        self.network = network
        self.disk = disk
        self.executor = executor
        self.randomSeed = randomSeed
    }
}
