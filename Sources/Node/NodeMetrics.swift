import Prelude
import Raft
import Telemetry
import Wire
import Workflow

/// What a node counts of itself while it works. What it can be asked for at any time is not counted here but read when
/// somebody looks: see `Node.collect`.
final class NodeMetrics {
    let proposalSeconds = MetricHistogram()
    let readSeconds = MetricHistogram()
    let writeSeconds = MetricHistogram()
    /// Raft messages in one batch on disk.
    let writeItems = MetricHistogram(bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
    private(set) var failedProposalCount: UInt64 = 0
    private(set) var failedReadCount: UInt64 = 0
    var droppedPeerMessageCount: UInt64 = 0
    var unreachablePeerCount: UInt64 = 0
    var stateBatchCount: UInt64 = 0
    var images = ImageCounts()
    /// By the raw value of the kind.
    private var receivedCounts = [UInt64](repeating: 0, count: MessageKind.allCases.count)
    private var sentCounts = [UInt64](repeating: 0, count: MessageKind.allCases.count)
    /// The term and leader that were seen last, and how often they changed.
    private var leaders = FlatMap<GroupID, (term: Term, leader: NodeID)>()
    private(set) var leaderChangeCounts = FlatMap<GroupID, UInt64>()

    func received(_ kind: MessageKind) { receivedCounts[Int(kind.rawValue)] += 1 }
    func sent(_ kind: MessageKind) { sentCounts[Int(kind.rawValue)] += 1 }

    func proposalEnded(after span: Nanoseconds, succeeded: Bool) {
        proposalSeconds.observe(span)
        if !succeeded { failedProposalCount += 1 }
    }

    func readEnded(after span: Nanoseconds, succeeded: Bool) {
        readSeconds.observe(span)
        if !succeeded { failedReadCount += 1 }
    }

    func wrote(_ itemCount: Int, within span: Nanoseconds) {
        writeSeconds.observe(span)
        writeItems.observe(Double(itemCount))
    }

    /// Looked at once a tick: a leader that comes and goes in between is not counted.
    func look(at group: RaftGroup) {
        let now = (term: group.core.term, leader: group.leader)
        guard now.leader != .none else { return }
        guard let before = leaders.updateValue(now, forKey: group.id), before != now else { return }
        leaderChangeCounts[group.id, default: 0] += 1
    }

    func collect(into exposition: inout Exposition) {
        exposition.histogram(
            "raftoral_proposal_seconds", "From the proposal of a command here to its application here.", proposalSeconds
        )
        exposition.counter(
            "raftoral_proposals_failed_total", "Commands whose outcome could not be told, or that were not taken.",
            failedProposalCount)
        exposition.histogram(
            "raftoral_read_seconds", "From the question for a linearizable read to its confirmation.", readSeconds)
        exposition.counter("raftoral_reads_failed_total", "Reads that were not confirmed.", failedReadCount)
        exposition.histogram(
            "raftoral_log_write_seconds", "Durable writes of the log: one write and one fdatasync each.", writeSeconds)
        exposition.histogram("raftoral_log_write_items", "Raft messages in one durable write.", writeItems)
        for kind in MessageKind.allCases {
            let place = Int(kind.rawValue)
            if sentCounts[place] > 0 {
                exposition.counter(
                    "raftoral_peer_messages_sent_total", "Raft messages given to the streams to other nodes, by kind.",
                    sentCounts[place], [("kind", "\(kind)")])
            }
            if receivedCounts[place] > 0 {
                exposition.counter(
                    "raftoral_peer_messages_received_total", "Raft messages received from other nodes, by kind.",
                    receivedCounts[place], [("kind", "\(kind)")])
            }
        }
        exposition.counter(
            "raftoral_peer_messages_dropped_total", "Raft messages dropped because too much waits for a slow peer.",
            droppedPeerMessageCount)
        exposition.counter(
            "raftoral_peer_streams_broken_total", "Streams to other nodes that broke.", unreachablePeerCount)
        exposition.counter(
            "raftoral_state_batches_total", "Batches of changes written to the state stores.", stateBatchCount)
        images.collect(into: &exposition)
    }
}

/// Images of state stores, made for followers that are too far behind, and fetched as one of them.
struct ImageCounts {
    var made: UInt64 = 0
    var sentBytes: UInt64 = 0
    var fetchedBytes: UInt64 = 0
    var installed: UInt64 = 0
    var failed: UInt64 = 0
    var refused: UInt64 = 0

    func collect(into exposition: inout Exposition) {
        exposition.counter(
            "raftoral_images_made_total", "Images of a state store that were made for other nodes.", made)
        exposition.counter("raftoral_image_sent_bytes_total", "Bytes of images that other nodes have read.", sentBytes)
        exposition.counter(
            "raftoral_image_fetched_bytes_total", "Bytes of images that were fetched from other nodes.", fetchedBytes)
        exposition.counter(
            "raftoral_images_installed_total", "Images of other nodes that took the place of a state here.", installed)
        exposition.counter(
            "raftoral_images_failed_total", "Images that could not be made, or not be used when they had come.", failed)
        exposition.counter(
            "raftoral_images_refused_total",
            "Images that were not fetched, because they are larger than `imageByteCountMax` or not named.", refused)
    }
}

extension Node {
    /// Everything that this node knows of itself, for Prometheus, with what the program registered in
    /// `NodeConfiguration.metrics`. Call it on the loop.
    public func collect(into exposition: inout Exposition) {
        exposition.gauge(
            "raftoral_node_info", "Always 1; the labels say which node this is.", 1,
            [("node_id", "\(id)"), ("cluster_id", clusterID), ("version", Version.text)])
        exposition.gauge("raftoral_node_ready", "1: all groups have a leader and have caught up.", readiness.isReady)
        exposition.gauge(
            "raftoral_members", "Members of the cluster, as far as this node knows.", directory.state.members.count)
        exposition.gauge("raftoral_disk_full", "1: commands are refused for lack of space.", isDiskFull)
        exposition.gauge("raftoral_log_segments", "Segment files of the log.", durableLog.segmentCount)
        exposition.gauge("raftoral_peer_streams", "Streams of other nodes that are open here.", inboundStreams.count)
        exposition.gauge("raftoral_waiting_results", "Calls that wait for the end of a run.", resultWaiters.count)
        metrics.collect(into: &exposition)
        images.collect(into: &exposition)
        for group in groups { collect(group, into: &exposition) }
        server.collect(into: &exposition)
        configuration.metrics.collect(into: &exposition)
    }

    private func collect(_ group: RaftGroup, into exposition: inout Exposition) {
        let labels = [("group", "\(group.id)")]
        let role = role(in: group)
        for (name, value) in [
            ("follower", NodeRole.follower), ("candidate", .candidate), ("leader", .leader), ("learner", .learner),
        ] {
            exposition.gauge(
                "raftoral_raft_role", "1 for the role that this node has in the group.", role == value,
                labels + [("role", name)])
        }
        exposition.gauge(
            "raftoral_raft_has_leader", "1: this node knows a leader of the group.", group.leader != .none, labels)
        exposition.gauge("raftoral_raft_term", "Current term.", group.core.term.rawValue, labels)
        exposition.gauge(
            "raftoral_raft_commit_index", "Highest committed index.", group.core.commitIndex.rawValue, labels)
        exposition.gauge("raftoral_raft_applied_index", "Highest applied index.", group.appliedIndex.rawValue, labels)
        exposition.gauge("raftoral_raft_last_index", "Highest index of the log.", group.core.lastIndex.rawValue, labels)
        exposition.gauge("raftoral_raft_first_index", "Lowest index of the log.", group.log.firstIndex.rawValue, labels)
        exposition.gauge("raftoral_raft_voters", "Voters of the group.", group.configuration.voters.count, labels)
        exposition.gauge("raftoral_raft_learners", "Learners of the group.", group.configuration.learners.count, labels)
        exposition.counter(
            "raftoral_raft_leader_changes_total", "Changes of the leader or its term that this node saw.",
            metrics.leaderChangeCounts[group.id] ?? 0, labels)
        exposition.gauge(
            "raftoral_pending_proposals", "Commands of this node that are not yet applied.", group.proposals.count,
            labels)
        exposition.gauge(
            "raftoral_pending_proposal_bytes", "Bytes of commands of this node that are not yet applied.",
            group.proposals.byteCount, labels)
        exposition.gauge(
            "raftoral_pending_reads", "Reads of this node that are not yet confirmed.", group.reads.count, labels)
        if group.isLeader {
            for peer in group.core.status.progress where peer.id != id {
                let last = group.core.lastIndex.rawValue
                let lag = last - min(last, peer.match.rawValue)
                exposition.gauge(
                    "raftoral_raft_replication_lag_entries", "Entries that a follower of this leader lacks.", lag,
                    labels + [("peer", "\(peer.id)")])
            }
        }
        if let machine = group.workflowMachine { collect(machine, group, labels, into: &exposition) }
    }

    private func collect(
        _ machine: WorkflowMachine, _ group: RaftGroup, _ labels: MetricLabels, into exposition: inout Exposition
    ) {
        for status in WorkflowStatus.allCases {
            exposition.gauge(
                "raftoral_workflow_runs", "Runs that are remembered, by status.", machine.count(of: status),
                labels + [("status", "\(status)")])
        }
        exposition.gauge(
            "raftoral_workflow_state_bytes", "Runs and variables, as they count for the limit of the state.",
            machine.stateByteCount, labels)
        exposition.gauge(
            "raftoral_workflow_state_bytes_max", "The limit of the state.", limits.workflow.stateByteCountMax, labels)
        exposition.gauge("raftoral_variables", "Variables.", machine.variableCount, labels)
        guard let runtime = runtimes[group.id] else { return }
        exposition.gauge(
            "raftoral_workflow_executing", "Runs that this node executes.", runtime.executingRunCount, labels)
        exposition.gauge(
            "raftoral_workflow_queued", "Runs of this node that wait for their turn.", runtime.queuedRunCount, labels)
        exposition.gauge(
            "raftoral_workflow_parked", "Runs of this node that only wait for timers.", runtime.parkedRunCount, labels)
    }
}
