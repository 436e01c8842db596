import CProtobuf
import XCTest

@testable import Wire

/// What the codec relies on in the contract itself.
final class MessagesContractTests: XCTestCase {
    /// Decoding descends one stack frame per level of known messages, so no message may contain itself.
    func test_messagesNestToABoundedDepth() throws {
        func depth<Struct: ProtobufStruct>(_ type: Struct.Type) throws -> Int {
            var model = Struct()
            Struct.initialize(&model)
            return try Self.depth(try XCTUnwrap(model.base.descriptor), within: [])
        }
        XCTAssertEqual(try depth(RaftEnvelope.Raw.self), 4)
        XCTAssertEqual(try depth(PeerMessage.Raw.self), 4)
        XCTAssertEqual(try depth(DescribeWorkflowResponse.Raw.self), 3)
        XCTAssertEqual(try depth(ListWorkflowsResponse.Raw.self), 2)
        XCTAssertEqual(try depth(StartWorkflowRequest.Raw.self), 2)
        XCTAssertEqual(try depth(JoinResponse.Raw.self), 2)
        XCTAssertEqual(try depth(ClusterStatusResponse.Raw.self), 3)
        XCTAssertEqual(try depth(DirectoryCommand.Raw.self), 2)
        XCTAssertEqual(try depth(DirectoryState.Raw.self), 2)
    }

    private struct SelfContainment: Error { var message: String }

    private static func depth(
        _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
        within path: [UnsafePointer<ProtobufCMessageDescriptor>]
    ) throws -> Int {
        if path.contains(descriptor) { throw SelfContainment(message: String(cString: descriptor.pointee.name)) }
        var deepest = 0
        for place in 0..<Int(descriptor.pointee.n_fields) {
            let field = descriptor.pointee.fields[place]
            // Messages and enumerations have a description, which begins with what it is.
            guard let inner = field.descriptor,
                inner.load(as: UInt32.self) == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC
            else { continue }
            let next = inner.assumingMemoryBound(to: ProtobufCMessageDescriptor.self)
            deepest = max(deepest, try depth(next, within: path + [descriptor]))
        }
        return deepest + 1
    }
}
