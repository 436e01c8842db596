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

            'raftoral serve --help' lists the flags of a node.
            """,
        version: Version.text,
        subcommands: [
            ServeCommand.self, WorkflowCommand.self, VariableCommand.self, ClusterCommand.self,
        ],
        defaultSubcommand: ServeCommand.self)
}
