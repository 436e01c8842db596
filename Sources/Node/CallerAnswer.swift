/// What a caller is told once the turn has come to it.
enum CallerAnswer {
    case command(PendingProposals.Completion, Result<AppliedResult, CommandFailure>)
    case read(PendingReads.Completion, Result<Void, CommandFailure>)

    func tell() {
        switch self {
        case .command(let completion, let result): completion(result)
        case .read(let completion, let result): completion(result)
        }
    }
}
