import Prelude
import Raft

/// Carries out `simple`, `enter-joint` and `leave-joint` on a bare configuration.
final class MembershipEnvironment: TraceEnvironment {
    private var members = Members()
    private var directiveCount: UInt64 = 0

    func handle(_ directive: Directive) -> String {
        defer { directiveCount += 1 }
        let changer = ConfigurationChanger(
            members, lastIndex: LogIndex(directiveCount), inflights: Inflights(countMax: 10, byteCountMax: .max))
        do {
            let changes = try parseChanges(directive.input)
            switch directive.command {
            case "simple":
                members = try changer.simple(changes)
            case "enter-joint":
                members = try changer.enterJoint(autoLeave: try directive.flag("autoleave") ?? false, changes)
            case "leave-joint":
                if !changes.isEmpty { throw TraceError("this command takes no input") }
                members = try changer.leaveJoint()
            default:
                throw TraceError("unknown command")
            }
        } catch {
            return "\(error)\n"
        }
        var text = members.membership.confState.configurationText + "\n"
        for (position, id) in members.progress.ids.enumerated() {
            text += "\(id): \(RaftStatus.PeerProgress(id, members.progress[position]).text)\n"
        }
        return text
    }
}
