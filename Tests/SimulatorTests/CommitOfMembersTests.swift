import Prelude
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A commit index alone waits for the next write of its group, which may never come. Not when it covers a change of the
/// members: who comes back without knowing the new ones asks the old ones, who may be gone.
final class CommitOfMembersTests: ClusterOfThree {
    func test_itIsOnTheDiskOfAllNodesIncludingTheLeader() throws {
        letTimePass(.seconds(1))
        let leader = try leader()
        let group = try XCTUnwrap(leader.node?.observedGroups.first { $0.id == .firstWorkflows })
        let (applied, voters) = (group.appliedIndex, group.configuration.voters)
        for machine in machines {
            machine.end(losesPower: true)
            let looked = try ClusterRecovery(dataDirectory: "/data", disk: machine.disk, limits: TestMachine.limits)
            defer { looked.close() }
            let found = try XCTUnwrap(looked.report.groups.first { $0.group == .firstWorkflows })
            // Nothing but members has changed in this group.
            XCTAssertEqual(found.last.index, applied, "\(machine.address)")
            XCTAssertEqual(found.knownCommit, applied, "\(machine.address)")
            XCTAssertEqual(found.configuration.voters, voters)
        }
    }
}
