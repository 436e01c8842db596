import ArgumentParser
import FoundationEssentials
import Raftoral

struct VariableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "variable", abstract: "Read and write cluster-wide replicated variables.",
        subcommands: [Put.self, Get.self, CompareAndSwap.self, Delete.self])

    struct Put: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Write a variable.")
        @OptionGroup var options: ClientOptions
        @Argument(help: "The variable's key.") var key: String
        @Argument(help: "The new value.") var value: String

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                VariableServicePath.put,
                PutRequest(key: key, value: Array(value.utf8), requestID: UUID().uuidString), PutResponse.self,
                kind: .write)
            show(options, ["revision": answer.revision], "revision \(answer.revision)")
        }
    }

    struct Get: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Read a variable.")
        @OptionGroup var options: ClientOptions
        @Argument(help: "The variable's key.") var key: String
        @Flag(help: "Take the node's own state, which may be a little old, without asking the leader.") var stale =
            false

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                VariableServicePath.get, GetRequest(key: key, stale: stale), GetResponse.self)
            guard answer.found else { throw ClientFailure("there is no variable '\(key)'") }
            let value = String(decoding: answer.value, as: UTF8.self)
            switch options.output {
            case .table: Console.out(value)
            case .json: Console.json(VariableView(key: key, value: value, revision: answer.revision))
            }
        }
    }

    struct CompareAndSwap: ClientCommand {
        static let configuration = CommandConfiguration(
            commandName: "cas", abstract: "Write a variable if its revision is still the expected one.")
        @OptionGroup var options: ClientOptions
        @Argument(help: "The variable's key.") var key: String
        @Argument(help: "The new value.") var value: String
        @Option(help: "The expected revision; 0: only if the variable does not exist.") var revision: UInt64

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                VariableServicePath.compareAndSwap,
                CompareAndSwapRequest(
                    key: key, expectedRevision: revision, value: Array(value.utf8), requestID: UUID().uuidString),
                CompareAndSwapResponse.self, kind: .write)
            guard answer.swapped else {
                throw ClientFailure(
                    "'\(key)' was not changed: its revision is \(answer.revision), not \(revision)"
                        + "\n  • Read it again and decide anew.")
            }
            show(options, ["revision": answer.revision], "revision \(answer.revision)")
        }
    }

    struct Delete: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Delete a variable.")
        @OptionGroup var options: ClientOptions
        @Argument(help: "The variable's key.") var key: String

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                VariableServicePath.delete, DeleteRequest(key: key, requestID: UUID().uuidString), DeleteResponse.self,
                kind: .write)
            show(options, ["existed": answer.existed], answer.existed ? "deleted" : "there was no such variable")
        }
    }
}

private func show(_ options: ClientOptions, _ json: [String: some Encodable], _ text: String) {
    switch options.output {
    case .table: Console.out(text)
    case .json: Console.json(json)
    }
}

private struct VariableView: Encodable {
    var key: String
    var value: String
    var revision: UInt64
}
