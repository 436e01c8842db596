import Raftoral

struct Visitor: Codable, Sendable {
    var name: String
    var language: String
}

struct Greeting: Codable, Sendable {
    var text: String
    var number: Int
}

@main
struct Greeter {
    static func main() async throws {
        // The node's loop gets a thread of its own; this task stays where it is.
        let thread = try LoopThread()
        let configuration = NodeConfiguration(
            address: HostPort(host: "127.0.0.1", port: 0), dataDirectory: "greeter-data", bootstrap: true)
        let node = try await RunningNode.start(configuration, on: thread.loop, workflows: register)
        print("node \(node.id) of cluster \(node.clusterID) serves at \(node.address)")

        // One call for start and result …
        let first: Greeting = try await node.run("greet", input: Visitor(name: "Ada", language: "en"))
        print(first.text)

        // … or two, with a handle that any node can make again from the id.
        let handle = try await node.start(
            "greet", input: Visitor(name: "Grace", language: "de"), returning: Greeting.self)
        let second = try await handle.result(timeout: .seconds(10))
        print(second.text)
        for step in try await handle.describe().checkpoints {
            print("  step \(step.position): \(step.key)")
        }

        await node.shutdown()
        await thread.end()
    }

    static func register(_ workflows: inout WorkflowRegistry) {
        workflows.register("greet") { (context, visitor: Visitor) in
            // What other systems say, and all that may differ, belongs into steps: it is recorded once.
            let word: String = try await context.step("translate") {
                switch visitor.language {
                case "en": "Hello"
                case "de": "Guten Tag"
                default: throw WorkflowFailure("nobody here speaks \(visitor.language)")
                }
            }
            let number: Int = try await context.step("count") { visitor.name.count }
            // Survives restarts and the loss of this node; another one goes on when the time has come.
            try await context.sleep(for: .milliseconds(20))
            return Greeting(text: "\(word), \(visitor.name)!", number: number)
        }
    }
}
