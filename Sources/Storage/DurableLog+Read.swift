import Prelude
import Raft

extension DurableLog {
    /// What the log in `directory` holds of each group. Changes nothing; nobody else may use the log. Blocks.
    public static func read(directory: String, disk: any Disk) throws(StorageError) -> [GroupID: RecoveredGroup] {
        try LogRecovery(directory: directory, disk: disk).groups
    }
}
