public enum Version {
    public static let text = "0.1.0"

    /// Rises by one with each kind of command, message or record that older programs cannot read. What came with a level
    /// is used only once every member of the cluster has announced that level.
    public static let protocolLevel: UInt32 = 2
}
