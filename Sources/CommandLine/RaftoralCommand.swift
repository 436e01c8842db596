import ArgumentParser
import Raftoral

@main
struct RaftoralCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "raftoral")
}
