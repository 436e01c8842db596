import ArgumentParser
import Raftoral

@main
struct RaftoralCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raftoral",
        abstract: "A workflow engine that survives anything, in one program.",
        discussion: """
            The first node of a cluster, another one, and a workflow on them:
              raftoral --address 127.0.0.1:5001 --bootstrap
              raftoral --address 127.0.0.1:5002 --peers 127.0.0.1:5001
              raftoral workflow start --type fibonacci --input '{"n":30}' --wait

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
