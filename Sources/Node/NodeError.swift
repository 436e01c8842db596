import Prelude
import Storage

/// Why a node cannot start, or had to stop. The description says what happened, to what, and what to do next.
public enum NodeError: Error, Sendable {
    case noPeersFound(peers: [HostPort], timeoutSeconds: UInt64)
    case nodeIDExists(NodeID, peer: String)
    case joinRefused(reason: String)
    case cannotBind(NetworkError)
    /// The listener for operators.
    case cannotBindAdmin(NetworkError)
    /// Files of TLS or access.
    case cannotSecure(String)
    case nothingToDo
    case storage(StorageError)
    /// The data directory holds a node of another cluster than that of the peers.
    case foreignCluster(directory: String, node: NodeID, clusterID: String, peersClusterID: String)
    case cannotRestore(group: GroupID, reason: String)
    /// The data is damaged, and cannot be fetched again from the cluster. Nothing was dropped.
    case cannotRepair(reason: String)
    /// The data directory holds nothing that a cluster could go on from. Nothing was changed.
    case cannotRecover(directory: String, reason: String)
    /// Nothing was made of a backup.
    case cannotUseBackup(file: String, reason: String)
    case invalidLimits(LimitViolation)
    case invalidAddress(String)
    case removed(NodeID)
    /// The members of the cluster have gone on to commands that this program does not know.
    case protocolTooOld(known: UInt32, needed: UInt32)
    case stopped
}

extension NodeError {
    var firstLine: String { String(description.prefix { $0 != "\n" }) }

    /// What the data directory holds is not what was written there.
    var isDamage: Bool {
        switch self {
        case .storage(.damaged), .cannotRestore: true
        default: false
        }
    }
}

extension NodeError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .noPeersFound(let peers, let seconds):
            """
            Could not discover any peers: none of \(peers.map(\.description).joined(separator: ", ")) \
            answered within \(seconds) s.
              • Check that the peers run and that their addresses in --peers are right.
              • Check that no firewall is between this node and them.
              • For the first node of a new cluster use --bootstrap instead of --peers.
              • When the peers start slowly, raise --discovery-timeout.
            """
        case .nodeIDExists(let id, let peer):
            """
            Node ID already exists: \(id) is, or was, a member of the cluster (asked through \(peer)). Ids are never \
            used twice.
              • Leave --node-id out to have the next free id assigned.
              • Or choose another --node-id.
              • To restart the node that has this id, start it with its old --data-dir.
            """
        case .joinRefused(let reason):
            """
            The cluster did not let this node join: \(reason)
              • Check with 'raftoral cluster status' that the cluster has a leader, then try again.
            """
        case .cannotBind(let error): error.bindDescription
        case .cannotBindAdmin(let error):
            """
            Cannot serve operators: \(error)
              • Choose another --admin-address, or leave it out.
            """
        case .cannotSecure(let reason):
            """
            Cannot use the files of TLS or access: \(reason).
              • 'openssl x509 -in FILE -noout -text' shows what a certificate says, until when it holds and for whom.
              • 'make certs' of the source makes a CA and certificates for trying TLS out.
            """
        case .nothingToDo:
            """
            Nothing to start from: no --bootstrap, no --peers, and the data directory holds no node.
              • For the first node of a new cluster: add --bootstrap.
              • To join a cluster: add --peers with the address of at least one of its nodes.
              • To restart a node: give the --data-dir that it was started with.
            """
        case .storage(let error): error.startDescription
        case .foreignCluster(let directory, let node, let own, let other):
            """
            The data directory \(directory) belongs to another cluster: it holds node \(node) of cluster \(own), and \
            the peers are of cluster \(other).
              • To join the cluster of the peers, give an empty --data-dir.
              • To restart the node that the directory holds, leave --peers out, or give peers of its own cluster.
            """
        case .cannotRestore(let group, let reason):
            """
            Cannot restore group \(group) from the data directory: \(reason)
              • When other nodes hold the data: add --repair-from-peers and --peers, and the node fetches it again \
            under a new id.
              • Otherwise keep the directory as it is and report this as a bug.
            """
        case .cannotRepair(let reason):
            """
            Cannot fetch the data again from the cluster: \(reason). Nothing was dropped.
              • A majority of the cluster's voters has to run without this node: check with 'raftoral cluster status'.
              • Then try again with the same flags.
            """
        case .cannotRecover(let directory, let reason):
            """
            Cannot make a cluster out of \(directory): \(reason). Nothing was changed.
              • Give the data directory of a node that was a member of the cluster, of another survivor for example.
              • With no such node left, restore a backup: raftoral restore --help
            """
        case .cannotUseBackup(let file, let reason):
            """
            Cannot restore \(file): \(reason).
              • Give a file that 'raftoral backup' has made and nobody has changed since, and an empty --data-dir.
            """
        case .invalidLimits(let violation): violation.description
        case .invalidAddress(let text):
            """
            '\(text)' is not an address.
              • Write HOST:PORT, for example 127.0.0.1:5001, or [::1]:5001 for IPv6.
            """
        case .removed(let id):
            """
            Node \(id) was removed from its cluster and has stopped.
              • To bring this machine back, start it with an empty data directory and --peers.
            """
        case .protocolTooOld(let known, let needed):
            """
            This program is too old for its cluster: it knows protocol level \(known), and all members of the cluster \
            have been at level \(needed).
              • Use the version of the program that the other nodes run, or a later one.
            """
        case .stopped: "The node has stopped."
        }
    }
}

extension NetworkError {
    fileprivate var bindDescription: String {
        switch self {
        case .addressInUse(let address):
            """
            Cannot bind \(address): the address is in use.
              • Another process listens there, perhaps an earlier node: stop it, or choose another --address.
              • 'ss -ltnp' shows who listens.
            """
        case .permissionDenied(let address):
            """
            Cannot bind \(address): permission denied.
              • Ports below 1024 need privileges: choose a higher port.
            """
        case .cannotResolve(let host, let reason):
            """
            Cannot bind: the host name \(host) does not resolve (\(reason)).
              • Use an address of this machine, or 0.0.0.0 for all of them with --advertise-address for the others.
            """
        case .cannotListen(let address, let reason), .cannotConnect(let address, let reason):
            """
            Cannot bind \(address): \(reason).
              • Use an address of this machine, or 0.0.0.0 for all of them with --advertise-address for the others.
            """
        case .timedOut(let address): "Cannot bind \(address): timed out."
        case .broken(let reason): "Cannot bind: \(reason)."
        case .endOfStream, .closedLocally: "Cannot bind: the socket was closed."
        }
    }
}

extension StorageError {
    /// The remedies one by one, for whoever starts a node.
    fileprivate var startDescription: String {
        switch self {
        case .disk(let error) where error.kind == .permissionDenied:
            """
            \(error).
              • Give this user the right to read and write it, or choose another --data-dir.
            """
        case .disk(let error) where error.kind == .exists:
            """
            \(error).
              • Choose another --data-dir: a directory that is empty, that does not exist yet, or that a node has used.
            """
        case .disk(let error):
            """
            \(error).
              • Check the disk, then start the node again: it resumes from what it acknowledged.
            """
        case .noSpace(let error):
            """
            \(error). Nothing was written.
              • Free some space, then start the node again.
            """
        case .damaged(let file, let offset, let reason):
            """
            \(file) is damaged at byte \(offset): \(reason). Nothing was changed.
              • Check the disk, then add --repair-from-peers and --peers: the node drops its data, and fetches it again \
            from its cluster under a new id.
              • Without a cluster that has it: restore a backup into an empty --data-dir.
              • 'raftoral log verify' and 'raftoral log dump' show what the log holds.
            """
        case .newerVersion(let file, let found, let known):
            """
            \(file) has format version \(found), and this program knows versions up to \(known).
              • Use the version of the program that wrote it, or a later one.
            """
        case .lockedByAnotherProcess(let directory):
            """
            \(directory) is in use by another process.
              • Stop that process, or give this node a --data-dir of its own.
            """
        case .foreign(let directory, let found):
            """
            \(directory) is not a data directory: it holds \(found) and no identity file.
              • Give an empty directory, or one that a node has used before, as --data-dir.
            """
        case .tooLarge, .noLog, .closed: description
        }
    }
}
