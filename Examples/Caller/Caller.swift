import Raftoral

struct Number: Codable, Sendable {
    var result: Int
}

@main
struct Caller {
    /// `caller HOST:PORT…`
    static func main() async throws {
        let peers = CommandLine.arguments.dropFirst().compactMap { HostPort($0) }
        guard !peers.isEmpty else { return print("usage: caller HOST:PORT…") }
        let thread = try LoopThread()
        let cluster = RaftoralClient(peers: peers, on: thread.loop)

        // The id makes the workflow easy to find again; a repetition by the same request id starts nothing twice.
        let handle = try await cluster.start(
            "fibonacci", input: ["n": 20], returning: Number.self, requestID: "fibonacci of 20, for Ada")
        print("fibonacci(20) =", try await handle.result().result)

        _ = try await cluster.put("color", Array("green".utf8))
        if let color = try await cluster.get("color") { print("color =", String(decoding: color, as: UTF8.self)) }

        await cluster.close()
        await thread.end()
    }
}
