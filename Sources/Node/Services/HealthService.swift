import Prelude
import Wire

/// `grpc.health.v1.Health`: overall, and of each service by the group that it needs.
final class HealthService {
    static let check = "/grpc.health.v1.Health/Check"
    static let watch = "/grpc.health.v1.Health/Watch"

    private unowned let node: Node
    private var watches: [ObjectIdentifier: (stream: ServerStream, service: String, told: HealthStatus)] = [:]

    init(node: Node) { self.node = node }

    func register(on server: GRPCServer) {
        server.unary(Self.check, HealthCheckRequest.self) { [weak self] call, request in
            guard let status = self?.status(of: request.service) else {
                return call.fail(.notFound, "there is no service '\(request.service.prefix(256))' here")
            }
            call.respond(HealthCheckResponse(status: status))
        }
        server.streaming(Self.watch) { [weak self] stream in
            stream.onMessage = { [weak self, unowned stream] bytes in
                do throws(DecodingFailure) {
                    self?.watch(try HealthCheckRequest(decoding: bytes).service, stream)
                } catch {
                    stream.finish(GRPCStatus(code: .invalidArgument, message: error.description))
                }
            }
            stream.onHalfClose = { [weak self, unowned stream] in
                guard let self, watches[ObjectIdentifier(stream)] != nil else {
                    return stream.finish(
                        GRPCStatus(code: .invalidArgument, message: "the request of Watch has no message"))
                }
            }
            stream.onEnd = { [weak self, unowned stream] in self?.watches[ObjectIdentifier(stream)] = nil }
        }
    }

    private func watch(_ service: String, _ stream: ServerStream) {
        guard watches[ObjectIdentifier(stream)] == nil else {
            return stream.finish(GRPCStatus(code: .unimplemented, message: "Watch takes one message"))
        }
        guard watches.count < node.limits.telemetry.healthWatchCountMax else {
            return stream.finish(
                GRPCStatus(code: .resourceExhausted, message: "too many calls watch this node's health"))
        }
        let status = status(of: service) ?? .serviceUnknown
        watches[ObjectIdentifier(stream)] = (stream, service, status)
        stream.send(HealthCheckResponse(status: status).encoded())
    }

    /// Tells everybody who watches, where there is something new to tell.
    func changed() {
        for (key, watch) in watches {
            let status = status(of: watch.service) ?? .serviceUnknown
            guard status != watch.told else { continue }
            watches[key]?.told = status
            watch.stream.send(HealthCheckResponse(status: status).encoded())
        }
    }

    /// The node leaves: tells so, and ends what would otherwise never end by itself.
    func leave() {
        changed()
        for watch in watches.values {
            watch.stream.finish(GRPCStatus(code: .unavailable, message: "node \(node.id) is shutting down"))
        }
    }

    /// Nil: no such service.
    private func status(of service: String) -> HealthStatus? {
        let isServing: Bool
        switch service {
        case "": isServing = node.readiness.isReady
        case "raftoral.WorkflowService", "raftoral.VariableService":
            isServing = node.readiness.isReady(.firstWorkflows)
        case _ where node.server.serviceNames.contains(service): isServing = node.phase == .running
        default: return nil
        }
        return isServing ? .serving : .notServing
    }
}
