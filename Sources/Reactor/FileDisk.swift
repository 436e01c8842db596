import CUVShims
import Glibc
import Prelude

/// The files of the machine.
public final class FileDisk: Disk {
    public init() {}

    /// Directories that it creates are durable when it returns.
    public func createDirectory(_ path: String) throws(DiskError) {
        try checkPath(path, "create directory")
        if mkdir(path, 0o700) == 0 {
            try synchronizeDirectory(parent(of: path))
            return
        }
        switch errno {
        case EEXIST where isDirectory(path):
            return
        case ENOENT where parent(of: path) != path:
            try createDirectory(parent(of: path))
            guard mkdir(path, 0o700) == 0 || (errno == EEXIST && isDirectory(path)) else {
                throw DiskError(errno: errno, "create directory", path)
            }
            try synchronizeDirectory(parent(of: path))
        default:
            throw DiskError(errno: errno, "create directory", path)
        }
    }

    public func list(_ directory: String) throws(DiskError) -> [String] {
        try checkPath(directory, "list")
        guard let stream = opendir(directory) else { throw DiskError(errno: errno, "list", directory) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = String(cString: raftoral_directory_entry_name(entry))
            if name != ".", name != ".." { names.append(name) }
        }
        if errno != 0 { throw DiskError(errno: errno, "list", directory) }
        return names.sorted()
    }

    public func open(_ path: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        let flags =
            switch mode {
            case .readOnly: O_RDONLY
            case .readWrite: O_RDWR
            case .createNew: O_RDWR | O_CREAT | O_EXCL
            }
        return OpenFile(descriptor: try openDescriptor(path, flags, "open"), path: path)
    }

    public func rename(_ from: String, to: String) throws(DiskError) {
        try checkPath(from, "rename")
        try checkPath(to, "rename")
        if Glibc.rename(from, to) != 0 {
            var error = DiskError(errno: errno, "rename", from)
            error.reason += " (to \(to))"
            throw error
        }
    }

    public func remove(_ path: String) throws(DiskError) {
        try checkPath(path, "remove")
        if unlink(path) != 0 { throw DiskError(errno: errno, "remove", path) }
    }

    public func synchronizeDirectory(_ directory: String) throws(DiskError) {
        let operation = "synchronize directory"
        let descriptor = try openDescriptor(directory, O_RDONLY | O_DIRECTORY, operation)
        defer { closeDescriptor(descriptor) }
        // Some file systems answer EINVAL: they cannot do it, and do not need it.
        if retrying({ fsync(descriptor) }) != 0, errno != EINVAL {
            throw DiskError(errno: errno, operation, directory)
        }
    }

    /// Works between processes and within one. The file stays behind; the system drops the lock when the
    /// process ends, however it ends.
    public func lock(_ path: String) throws(DiskError) -> any DiskLock {
        let descriptor = try openDescriptor(path, O_RDWR | O_CREAT, "lock")
        guard retrying({ flock(descriptor, LOCK_EX | LOCK_NB) }) == 0 else {
            let number = errno
            closeDescriptor(descriptor)
            if number == EWOULDBLOCK {
                throw DiskError(kind: .locked, operation: "lock", path: path, reason: "another process holds it")
            }
            throw DiskError(errno: number, "lock", path)
        }
        return HeldLock(descriptor: descriptor)
    }

    public func availableByteCount(_ directory: String) throws(DiskError) -> UInt64 {
        let operation = "measure the space of"
        try checkPath(directory, operation)
        var status = statvfs()
        guard retrying({ statvfs(directory, &status) }) == 0 else {
            throw DiskError(errno: errno, operation, directory)
        }
        let (count, isOver) = UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        return isOver ? .max : count
    }

    private func openDescriptor(
        _ path: String, _ flags: Int32, _ operation: String
    ) throws(DiskError) -> Int32 {
        try checkPath(path, operation)
        // O_NONBLOCK means nothing to files, but a FIFO in their place must not hold us up.
        let descriptor = retrying { Glibc.open(path, flags | O_CLOEXEC | O_NONBLOCK, 0o600) }
        guard descriptor >= 0 else { throw DiskError(errno: errno, operation, path) }
        return descriptor
    }

    private func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// The directory that holds `path`: "." for a bare name, "/" for itself.
    private func parent(of path: String) -> String {
        let parts = path.split(separator: "/").dropLast()
        let root = path.hasPrefix("/") ? "/" : ""
        let joined = root + parts.joined(separator: "/")
        return joined.isEmpty ? "." : joined
    }

    /// The system would silently stop at the NUL and touch another file.
    private func checkPath(_ path: String, _ operation: String) throws(DiskError) {
        if path.utf8.contains(0) {
            throw DiskError(kind: .io, operation: operation, path: path, reason: "the path contains a NUL")
        }
    }
}

extension DiskError {
    init(errno number: Int32, _ operation: String, _ path: String) {
        let kind: Kind =
            switch number {
            case ENOSPC, EDQUOT: .noSpace
            case ENOENT: .notFound
            case EEXIST: .exists
            case EACCES, EPERM, EROFS: .permissionDenied
            default: .io
            }
        self.init(kind: kind, operation: operation, path: path, reason: systemReason(number))
    }
}

/// Repeats a system call that a signal has interrupted.
func retrying<Count: SignedInteger>(_ call: () -> Count) -> Count {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}

/// Not repeated when interrupted: on Linux the descriptor is closed all the same.
func closeDescriptor(_ descriptor: Int32) { _ = Glibc.close(descriptor) }
