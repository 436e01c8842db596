/// The paths of proto/raftoral.proto.
public enum RaftServicePath {
    public static let sendMessage = "/raftoral.RaftService/SendMessage"
    public static let discover = "/raftoral.RaftService/Discover"
    public static let streamMessages = "/raftoral.RaftService/StreamMessages"
    public static let readImage = "/raftoral.RaftService/ReadImage"
}

public enum WorkflowServicePath {
    public static let start = "/raftoral.WorkflowService/StartWorkflow"
    public static let result = "/raftoral.WorkflowService/GetWorkflowResult"
    public static let describe = "/raftoral.WorkflowService/DescribeWorkflow"
    public static let list = "/raftoral.WorkflowService/ListWorkflows"
}

public enum VariableServicePath {
    public static let put = "/raftoral.VariableService/Put"
    public static let get = "/raftoral.VariableService/Get"
    public static let compareAndSwap = "/raftoral.VariableService/CompareAndSwap"
    public static let delete = "/raftoral.VariableService/Delete"
}

public enum ClusterServicePath {
    public static let join = "/raftoral.ClusterService/Join"
    public static let status = "/raftoral.ClusterService/Status"
    public static let remove = "/raftoral.ClusterService/Remove"
    public static let transferLeader = "/raftoral.ClusterService/TransferLeader"
    public static let beginBackup = "/raftoral.ClusterService/BeginBackup"
    public static let readBackup = "/raftoral.ClusterService/ReadBackup"
    public static let endBackup = "/raftoral.ClusterService/EndBackup"
}
