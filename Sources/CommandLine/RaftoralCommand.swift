import ArgumentParser
import Raftoral

@main
struct RaftoralCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raftoral",
        abstract: "A workflow engine that survives anything, in one program.",
        discussion: """
            Start the first node of a cluster:   raftoral --address 127.0.0.1:5001 --bootstrap
            Add another node:                    raftoral --address 127.0.0.1:5002 --peers 127.0.0.1:5001
            Run a workflow on it:                raftoral workflow start --type ping_pong \
            --input '{"message":"ping"}' --wait --address 127.0.0.1:5002

            Flags of a node ('raftoral serve --help' has all of them):
              -a, --address HOST:PORT   where to listen (also --listen)
              -b, --bootstrap           start a new cluster
              -p, --peers A,B           join the cluster of these nodes
              -n, --node-id N           this id instead of an assigned one
              --data-dir PATH           where the node keeps its data
            """,
        version: Version.text,
        subcommands: [
            ServeCommand.self, WorkflowCommand.self, VariableCommand.self, ClusterCommand.self, LogCommand.self,
            BackupCommand.self, RestoreCommand.self,
        ],
        defaultSubcommand: ServeCommand.self)
}
