/// Shrinks the schedule of faults of a failing run while it still breaks the same rule.
///
/// Delta debugging: leaves out halves, then quarters, and so on down to single faults, and keeps what is not needed left
/// out. Each attempt is a whole run.
public func minimise(
    _ outcome: SimulationOutcome, _ options: SimulationOptions, attemptCountMax: Int = 200,
    report: (String) -> Void = { _ in }
) -> (options: SimulationOptions, outcome: SimulationOutcome) {
    guard let rule = outcome.violation?.invariant else { return (options, outcome) }
    var best = (options: options, outcome: outcome)
    var kept = outcome.schedule.indices.filter { !options.leftOut.contains($0) }
    var attempts = 0
    var pieceCount = 2
    while kept.count > 0, attempts < attemptCountMax {
        let size = max(1, (kept.count + pieceCount - 1) / pieceCount)
        var hasShrunk = false
        var start = 0
        while start < kept.count, attempts < attemptCountMax {
            let piece = Set(kept[start..<min(start + size, kept.count)])
            var attempt = options
            attempt.leftOut = best.options.leftOut.union(piece)
            attempts += 1
            let result = simulate(attempt)
            if result.violation?.invariant == rule {
                best = (attempt, result)
                kept.removeAll { piece.contains($0) }
                hasShrunk = true
                report("\(kept.count) faults left after \(attempts) runs")
            } else {
                start += size
            }
        }
        if size == 1, !hasShrunk { break }
        if !hasShrunk || size > 1 { pieceCount = min(max(1, kept.count), pieceCount * 2) }
    }
    return best
}
