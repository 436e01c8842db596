import ArgumentParser
import FoundationEssentials
import Raftoral

/// The files by which a node or a client speaks TLS.
struct TLSOptions: ParsableArguments {
    @Option(
        help: "PEM file of the own certificate, with those on the way to its CA. Switches TLS on.")
    var tlsCert: String?

    @Option(help: "PEM file of the key of --tls-cert.")
    var tlsKey: String?

    @Option(help: "PEM file of the CAs to believe when the other side shows a certificate.")
    var tlsCA: String?
}

/// How a node proves who it is, and whom it lets in.
struct SecurityOptions: ParsableArguments {
    @OptionGroup var own: TLSOptions

    @Option(help: "Whether clients need certificates of --tls-ca: none, optional or required.")
    var tlsClientAuth: TLSClientAuthentication = .none

    @Option(help: "PEM file of the certificate with which this node meets other nodes; they need one of --peer-tls-ca.")
    var peerTLSCert: String?

    @Option(help: "PEM file of the key of --peer-tls-cert.")
    var peerTLSKey: String?

    @Option(
        name: .customLong("peer-tls-ca"),
        help: "PEM file of the CA of nodes. Not that of clients: whoever has a certificate of it is a node.")
    var peerTLSCA: String?

    @Option(help: "File with the cluster's token, by which nodes know each other without --peer-tls-cert.")
    var clusterTokenFile: String?

    @Option(help: "File that says which tokens and certificates may do what.")
    var accessFile: String?

    var files: SecurityFiles {
        var files = SecurityFiles()
        files.tlsCertificate = own.tlsCert
        files.tlsKey = own.tlsKey
        files.tlsCA = own.tlsCA
        files.clientAuthentication = tlsClientAuth
        files.peerCertificate = peerTLSCert
        files.peerKey = peerTLSKey
        files.peerCA = peerTLSCA
        files.clusterToken = clusterTokenFile
        files.access = accessFile
        return files
    }
}

extension TLSClientAuthentication: ExpressibleByArgument {}

/// How a client command proves who it is, and whom it believes.
struct ClientSecurityOptions: ParsableArguments {
    @Flag(help: "Speak TLS, believing the CAs of the system. Implied by --tls-ca and --tls-cert.")
    var tls = false

    @OptionGroup var own: TLSOptions

    @Option(help: "File whose first line is the bearer token to present. Otherwise RAFTORAL_TOKEN in the environment.")
    var tokenFile: String?

    /// `seams` with TLS and the credentials.
    func applied(to seams: Seams) throws(SecurityFailure) -> Seams {
        var files = ClientSecurityFiles()
        files.isTLS = tls
        files.trusted = own.tlsCA
        files.certificate = own.tlsCert
        files.key = own.tlsKey
        files.token = tokenFile
        return try files.applied(to: seams, environmentToken: ProcessInfo.processInfo.environment["RAFTORAL_TOKEN"])
    }
}
