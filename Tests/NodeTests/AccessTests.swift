import Node
import Prelude
import Wire
import XCTest

/// Who may call what, without a network.
final class AccessTests: XCTestCase {
    private func caller(
        _ path: String, bearer: String? = nil, clusterToken: String? = nil, names: [String] = [], isPeer: Bool = false
    ) -> Caller {
        var metadata = Metadata()
        if let bearer { metadata.add("authorization", "Bearer \(bearer)") }
        if let clusterToken { metadata.add(AccessControl.tokenHeader, clusterToken) }
        return Caller(
            path: path, identity: TLSIdentity(names: names, isPeer: isPeer), metadata: metadata,
            remoteAddress: HostPort(host: "127.0.0.1", port: 1))
    }

    private func hex(_ text: String) -> String {
        Digest.sha256(Array(text.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private let put = "/raftoral.VariableService/Put"
    private let get = "/raftoral.VariableService/Get"
    private let join = "/raftoral.ClusterService/Join"
    private let remove = "/raftoral.ClusterService/Remove"
    private let status = "/raftoral.ClusterService/Status"
    private let stream = "/raftoral.RaftService/StreamMessages"
    private let discover = "/raftoral.RaftService/Discover"

    func testDigest() {
        XCTAssertEqual(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        XCTAssertEqual(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertTrue(Digest.isEqual([], []))
        XCTAssertFalse(Digest.isEqual([1], [1, 2]))
        XCTAssertFalse(Digest.isEqual([1, 2], [1, 3]))
    }

    func testWithoutRulesEverythingIsAllowed() {
        let access = AccessControl(AccessControl.Rules())
        for path in [put, get, join, remove, stream, discover, "/a.B/C"] {
            XCTAssertNil(access.refusal(of: caller(path)), path)
        }
    }

    func testRoles() throws {
        let policy = try AccessPolicy(
            parsing: """
                # a comment
                token ada sha256:\(hex("one"))  reader   # another
                token bob sha256:\(hex("two"))  operator@VariableService

                cert eve.example admin
                cert wim worker
                """)
        let access = AccessControl(AccessControl.Rules(policy: policy))
        func code(_ caller: Caller) -> GRPCCode { access.refusal(of: caller)?.code ?? .ok }
        XCTAssertEqual(code(caller(get, bearer: "one")), .ok)
        XCTAssertEqual(code(caller(put, bearer: "one")), .permissionDenied)
        XCTAssertEqual(code(caller(discover, bearer: "one")), .ok)
        XCTAssertEqual(code(caller(put, bearer: "two")), .ok)
        XCTAssertEqual(code(caller(get, bearer: "two")), .ok)
        XCTAssertEqual(code(caller("/raftoral.WorkflowService/StartWorkflow", bearer: "two")), .permissionDenied)
        XCTAssertEqual(code(caller(remove, names: ["x", "eve.example"])), .ok)
        XCTAssertEqual(code(caller("/some.New/Thing", names: ["eve.example"])), .ok)
        XCTAssertEqual(code(caller("/some.New/Thing", bearer: "one")), .permissionDenied)
        XCTAssertEqual(code(caller("/raftoral.WorkerService/Poll", names: ["wim"])), .ok)
        XCTAssertEqual(code(caller(get, names: ["wim"])), .permissionDenied)
        XCTAssertEqual(code(caller(get, bearer: "three")), .unauthenticated)
        XCTAssertEqual(code(caller(get)), .unauthenticated)
        XCTAssertEqual(code(caller(discover)), .unauthenticated)
        XCTAssertEqual(code(caller("/grpc.health.v1.Health/Check")), .ok)
        // Not even an administrator is a node.
        XCTAssertEqual(code(caller(join, names: ["eve.example"])), .unauthenticated)
        XCTAssertEqual(code(caller(stream, names: ["eve.example"])), .unauthenticated)
        XCTAssertEqual(code(caller(stream, isPeer: true)), .ok)
        XCTAssertEqual(code(caller(put, isPeer: true)), .unauthenticated)
        // Nodes ask each other whether they are members, and pass a removal on to the leader.
        XCTAssertEqual(code(caller(status, isPeer: true)), .ok)
        XCTAssertEqual(code(caller(remove, isPeer: true)), .ok)
        XCTAssertEqual(code(caller(status, bearer: "one")), .ok)
        XCTAssertEqual(code(caller(remove, bearer: "one")), .permissionDenied)
        XCTAssertEqual(code(caller(remove)), .unauthenticated)
        for path in [ClusterServicePath.beginBackup, ClusterServicePath.readBackup, ClusterServicePath.endBackup] {
            XCTAssertEqual(code(caller(path, bearer: "one")), .permissionDenied)
        }
    }

    func testAnyone() throws {
        let access = AccessControl(AccessControl.Rules(policy: try AccessPolicy(parsing: "anyone reader")))
        XCTAssertNil(access.refusal(of: caller(get)))
        XCTAssertEqual(access.refusal(of: caller(put))?.code, .unauthenticated)
    }

    func testClusterTokens() {
        let access = AccessControl(
            AccessControl.Rules(clusterTokens: ["new", "old"].map { Digest.sha256(Array($0.utf8)) }))
        for token in ["new", "old"] {
            XCTAssertNil(access.refusal(of: caller(join, clusterToken: token)))
            XCTAssertNil(access.refusal(of: caller(stream, clusterToken: token)))
        }
        XCTAssertEqual(access.refusal(of: caller(stream, clusterToken: "other"))?.code, .unauthenticated)
        XCTAssertEqual(access.refusal(of: caller(stream))?.code, .unauthenticated)
        XCTAssertNil(access.refusal(of: caller(put)))
        access.update(AccessControl.Rules(havePeersCertificates: true))
        XCTAssertEqual(access.refusal(of: caller(stream, clusterToken: "new"))?.code, .unauthenticated)
        XCTAssertNil(access.refusal(of: caller(stream, isPeer: true)))
    }

    func testWhatIsMalformedIsNamedByItsLine() {
        for (text, line, reason) in [
            ("\nsomebody reader", 2, "'somebody' is none of token, cert, anyone"),
            ("token ada", 1, "a token has a name and sha256:HEX"),
            ("token ada sha256:00 reader", 1, "the token of ada is not sha256: and 64 digits"),
            (
                "token ada sha256:\(String(repeating: "g", count: 64)) reader", 1,
                "the token of ada is not sha256: and 64 digits"
            ),
            ("cert", 1, "cert is followed by a name of the certificate"),
            ("cert ada", 1, "no role is given"),
            ("# x\n\nanyone king", 3, "'king' is none of reader, operator, worker, admin"),
            ("anyone reader@", 1, "no service follows the @ of 'reader@'"),
        ] {
            XCTAssertThrowsError(try AccessPolicy(parsing: text), text) { error in
                XCTAssertEqual("\(error)", "line \(line): \(reason)")
            }
        }
    }
}
