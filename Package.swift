// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
]

/// The import table of docs/architecture.md; `make check` holds the sources to it.
func module(_ name: String, path: String? = nil, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: path, swiftSettings: strict)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: [.byName(name: name)] + dependencies,
        path: "Tests/\(name)Tests", exclude: exclude, swiftSettings: strict)
}

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let heaps = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "raftoral",
    products: [
        .library(name: "Raftoral", targets: ["Raftoral"]),
        // Whole clusters over virtual time, for tests of workflows: docs/simulator.md.
        .library(name: "RaftoralSimulator", targets: ["Simulator"]),
        .executable(name: "raftoral", targets: ["raftoral"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        // C libraries, one folder each.
        .systemLibrary(
            name: "CUV", path: "CSystemShims/CUV", pkgConfig: "libuv",
            providers: [.apt(["libuv1-dev"])]),
        .systemLibrary(
            name: "CNGHTTP2", path: "CSystemShims/CNGHTTP2", pkgConfig: "libnghttp2",
            providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(
            name: "CSQLite", path: "CSystemShims/CSQLite", pkgConfig: "sqlite3",
            providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(
            name: "CProtobuf", path: "CSystemShims/CProtobuf", pkgConfig: "libprotobuf-c",
            providers: [.apt(["libprotobuf-c-dev"])]),
        .target(
            name: "CUVShims", dependencies: ["CUV"], path: "CSystemShims/CUVShims"),
        .target(
            name: "CMessages", dependencies: ["CProtobuf"], path: "CSystemShims/CMessages"),
        .target(name: "CChecksum", path: "CSystemShims/CChecksum"),
        .systemLibrary(
            name: "COpenSSL", path: "CSystemShims/COpenSSL", pkgConfig: "openssl",
            providers: [.apt(["libssl-dev"])]),
        .target(name: "COpenSSLShims", dependencies: ["COpenSSL"], path: "CSystemShims/COpenSSLShims"),
        .systemLibrary(
            name: "CZlib", path: "CSystemShims/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(
            name: "CMicroHTTPD", path: "CSystemShims/CMicroHTTPD", pkgConfig: "libmicrohttpd",
            providers: [.apt(["libmicrohttpd-dev"])]),
        .target(
            name: "CMicroHTTPDShims", dependencies: ["CMicroHTTPD"], path: "CSystemShims/CMicroHTTPDShims"),

        module("Prelude", []),
        module("Telemetry", ["Prelude"]),
        module("Raft", ["Prelude", collections]),
        module("Workflow", ["Prelude", collections, heaps]),
        module("Storage", ["Prelude", "Raft", "CSQLite", "CChecksum", collections]),
        // Fake disks and work for the tests of several modules and for the simulator.
        module("StorageTesting", ["Prelude", "Storage"]),
        module(
            "Wire",
            [
                "Prelude", "Telemetry", "Raft", "Workflow", "CNGHTTP2", "CProtobuf", "CMessages", "COpenSSLShims",
                "CZlib", collections, heaps,
            ]),
        module("Node", ["Prelude", "Telemetry", "Raft", "Workflow", "Storage", "Wire", logging, collections]),
        module(
            "Reactor",
            ["Prelude", "Telemetry", "CUV", "CUVShims", "CMicroHTTPD", "CMicroHTTPDShims", collections, heaps]),
        module(
            "Raftoral",
            ["Prelude", "Telemetry", "Raft", "Workflow", "Storage", "Wire", "Node", "Reactor", logging, metrics]),
        .executableTarget(
            name: "raftoral", dependencies: ["Raftoral", arguments, logging],
            path: "Sources/CommandLine", swiftSettings: strict),

        // The real node over virtual time, a fake network and fake disks: docs/simulator.md.
        module(
            "Simulator",
            ["Prelude", "Raft", "Workflow", "Storage", "StorageTesting", "Wire", "Node", logging, collections, heaps]),
        .executableTarget(
            name: "raftoral-sim", dependencies: ["Prelude", "Simulator", arguments], path: "Sources/SimulatorCommand",
            swiftSettings: strict),

        // The programs of docs/embedding.md: `swift run greeter`, `swift run caller HOST:PORT`.
        .executableTarget(
            name: "greeter", dependencies: ["Raftoral"], path: "Examples/Greeter", swiftSettings: strict),

        .executableTarget(
            name: "caller", dependencies: ["Raftoral"], path: "Examples/Caller", swiftSettings: strict),

        // The program of docs/simulator.md: `swift run transfers`.
        .executableTarget(
            name: "transfers", dependencies: ["Simulator"], path: "Examples/Transfers", swiftSettings: strict),

        // The core against recorded traces: `swift run raft-conformance [FOLDER]`.
        .target(
            name: "RaftTrace", dependencies: ["Prelude", "Raft"], path: "Tests/RaftTrace", swiftSettings: strict),
        .executableTarget(
            name: "raft-conformance", dependencies: ["RaftTrace"], path: "Tests/RaftConformance",
            swiftSettings: strict),
        .executableTarget(
            name: "raft-bench", dependencies: ["Prelude", "Raft"], path: "Sources/RaftBench", swiftSettings: strict),

        .executableTarget(
            name: "grpc-interop-client", dependencies: ["Prelude", "Wire", "Reactor"], path: "Tests/GRPCInterop",
            swiftSettings: strict),
        // What official gRPC clients are run against.
        .executableTarget(
            name: "grpc-interop-server", dependencies: ["Prelude", "Wire", "Reactor", collections],
            path: "Tests/GRPCInteropServer", swiftSettings: strict),
        // What benchmarks and foreign clients call.
        .executableTarget(
            name: "grpc-echo-server", dependencies: ["Prelude", "Telemetry", "Wire", "Reactor"],
            path: "Sources/EchoServer", swiftSettings: strict),

        tests(of: "Prelude"),
        tests(of: "Telemetry", ["Prelude"]),
        tests(of: "Raft", ["Prelude", "RaftTrace"], exclude: ["Traces"]),
        tests(of: "Workflow"),
        tests(of: "Storage", ["Prelude", "Raft", "Reactor", "StorageTesting", "CChecksum"]),
        tests(of: "Wire", ["Prelude", "CNGHTTP2"]),
        tests(of: "Node", ["Prelude", "Raft", "Wire", "Workflow"]),
        tests(of: "Reactor"),
        tests(of: "Raftoral", [logging, metrics]),
        tests(
            of: "Simulator",
            ["Prelude", "Storage", "StorageTesting", "Wire", "Workflow", "Node", logging, "raftoral-sim", "transfers"]),
    ]
)

// `make fuzz` only: libFuzzer brings its own `main`, so that nothing else can be built with it.
if Context.environment["RAFTORAL_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "raftoral-fuzz", dependencies: ["Prelude", "Raft", "Workflow", "Storage", "Wire", "Node"],
            path: "Tests/Fuzz",
            swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])]))
}
