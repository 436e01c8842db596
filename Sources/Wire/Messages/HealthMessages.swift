import Prelude

/// Asks for the health of one service; empty: of the whole server.
public struct HealthCheckRequest: WireMessage {
    public var service: String

    public init(service: String = "") { self.service = service }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        var fields = ProtobufFields(Array(bytes)[...])
        service = ""
        do throws(ProtobufFields.Malformed) {
            while let (field, value) = try fields.next() {
                guard field == 1 else { continue }
                guard case .bytes(let bytes) = value else { throw ProtobufFields.Malformed() }
                guard let text = String(validating: bytes, as: UTF8.self) else { throw ProtobufFields.Malformed() }
                service = text
            }
        } catch {
            throw DecodingFailure(message: "grpc.health.v1.HealthCheckRequest", reason: .malformed)
        }
    }

    public func encoded() -> [UInt8] {
        var writer = ProtobufWriter()
        if !service.isEmpty { writer.text(1, service) }
        return writer.bytes
    }
}

public enum HealthStatus: UInt64, Sendable {
    case unknown = 0
    case serving = 1
    case notServing = 2
    case serviceUnknown = 3
}

public struct HealthCheckResponse: WireMessage {
    public var status: HealthStatus

    public init(status: HealthStatus) { self.status = status }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        var fields = ProtobufFields(Array(bytes)[...])
        status = .unknown
        do throws(ProtobufFields.Malformed) {
            while let (field, value) = try fields.next() {
                guard field == 1 else { continue }
                guard case .number(let number) = value else { throw ProtobufFields.Malformed() }
                // A status of a later version means nothing that we could act upon.
                status = HealthStatus(rawValue: number) ?? .unknown
            }
        } catch {
            throw DecodingFailure(message: "grpc.health.v1.HealthCheckResponse", reason: .malformed)
        }
    }

    public func encoded() -> [UInt8] {
        var writer = ProtobufWriter()
        writer.number(1, status.rawValue)
        return writer.bytes
    }
}
