import XCTest

@testable import Wire

/// The parts of reflection and health that need no server: encoded messages and descriptors, well-formed and not.
final class ReflectionTests: XCTestCase {
    func test_symbolsAreFound() {
        let own = DescriptorSet.own
        for symbol in [
            "raftoral.VariableService", "raftoral.VariableService.Put", "raftoral.PutRequest",
            "raftoral.PutRequest.key",
            "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc.health.v1.HealthCheckResponse.SERVING",
        ] {
            XCTAssertNotNil(own.file(containing: symbol), symbol)
        }
        XCTAssertNil(own.file(containing: "raftoral"))
        XCTAssertNil(own.file(containing: ""))
        XCTAssertNotNil(own.file(named: "raftoral.proto"))
        XCTAssertNil(own.file(named: "peer.proto"))
    }

    func test_randomBytesAreRefusedOrRead() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0..<40, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            _ = ReflectionService.answer(bytes, .own, ["a"])
            _ = try? HealthCheckRequest(decoding: bytes)
            _ = try? HealthCheckResponse(decoding: bytes)
            _ = try? DescriptorSet(bytes)
        }
    }

    func test_malformedFields() throws {
        for bytes: [UInt8] in [
            [0x00], [0x0A], [0x0A, 5, 1], [0x08], [0x08, 0x80], [0x0B], [0x0D, 1, 2, 3], [0x09, 1],
            [UInt8](repeating: 0xFF, count: 11), [0x08] + [UInt8](repeating: 0xFF, count: 9) + [0x02],
        ] {
            XCTAssertThrowsError(try HealthCheckRequest(decoding: bytes), "\(bytes)")
        }
        // Fields that are not known are passed over, whatever their kind.
        let unknown: [UInt8] = [0x10, 1, 0x1D, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x0A, 1, 0x78, 0x2A, 1, 0]
        XCTAssertEqual(try HealthCheckRequest(decoding: unknown).service, "x")
        XCTAssertThrowsError(try HealthCheckRequest(decoding: [0x0A, 1, 0xFF]))
        XCTAssertThrowsError(try HealthCheckRequest(decoding: [0x08, 1]))
        XCTAssertEqual(try HealthCheckResponse(decoding: [0x08, 0x63]).status, .unknown)
    }

    func test_healthMessagesGoRoundTrip() throws {
        for service in ["", "raftoral.WorkflowService", String(repeating: "ü", count: 200)] {
            let request = HealthCheckRequest(service: service)
            XCTAssertEqual(try HealthCheckRequest(decoding: request.encoded()), request)
        }
        for status in [HealthStatus.unknown, .serving, .notServing, .serviceUnknown] {
            XCTAssertEqual(
                try HealthCheckResponse(decoding: HealthCheckResponse(status: status).encoded()).status, status)
        }
    }
}
