import CUVShims

/// The memory of the whole process, whoever uses it.
public enum ProcessMemory {
    /// Gives back what only the start of the program needed. What is needed again comes back by itself.
    public static func release() { raftoral_release_memory() }
}
