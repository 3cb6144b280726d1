// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

/// The settings of every Swift target. Warnings are errors for whoever builds the command, and not
/// in a package that merely uses the library: a newer compiler may know new warnings.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("InternalImportsByDefault"),
    .treatAllWarnings(as: .error, .when(traits: ["Command"])),
]

/// A product of another package, for those who build the command, or have another trait.
func product(_ name: String, _ package: String, trait: String = "Command") -> Target.Dependency {
    .product(name: name, package: package, condition: .when(traits: [trait]))
}

/// What the targets of the fuzzers look into.
let fuzzed: [Target.Dependency] = [
    "Connectx", "ConnectxCore", "TupleguardABI", "TupleguardAgent", "TupleguardAgentClient",
    "TupleguardConntrack", "TupleguardDeferral", "TupleguardHostSurvey", "TupleguardKernel",
    "TupleguardLinux", "TupleguardMetrics", "TupleguardPictures", "TupleguardRecords",
    "TupleguardSocketDiag", "TupleguardSockets",
    product("NIOCore", "swift-nio"), product("NIOEmbedded", "swift-nio"),
]

let package = Package(
    name: "tupleguard",
    products: [
        .executable(name: "tupleguard", targets: ["tupleguard"]),
        .library(name: "Connectx", targets: ["Connectx"]),
        .library(name: "ConnectxNIO", targets: ["ConnectxNIO"]),
    ],
    traits: [
        .trait(
            name: "Command",
            description:
                "The command and its agent. Without it (traits: []) the library alone, which needs no other package."
        ),
        .trait(name: "NIO", description: "The library ConnectxNIO, for channels of SwiftNIO."),
        .default(enabledTraits: ["Command", "NIO"]),
    ],
    dependencies: [
        // Subcommands, help, completions.
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        // The agent's log, in the form that every Swift service uses.
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        // Ends the agent's parts in order when a signal arrives.
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        // HTTP on the agent's socket, and what ConnectxNIO is for.
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        // MARK: The library, with what it stands on

        .target(name: "CTupleguardLinux"),
        .target(
            name: "TupleguardSockets", dependencies: ["CTupleguardLinux"], swiftSettings: strict),
        .target(
            name: "TupleguardSocketDiag", dependencies: ["CTupleguardLinux", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "ConnectxCore",
            dependencies: [
                "CConnectx", "CTupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets",
            ],
            swiftSettings: strict),
        .target(
            name: "Connectx",
            dependencies: ["CTupleguardLinux", "ConnectxCore", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "ConnectxNIO",
            dependencies: [
                "Connectx", "ConnectxCore", "TupleguardSockets",
                product("NIOCore", "swift-nio", trait: "NIO"),
                product("NIOPosix", "swift-nio", trait: "NIO"),
            ],
            swiftSettings: strict),

        // The C library. A target has one language: CConnectx is its header and the few C functions
        // that the core stands on, ConnectxLibrary its two functions in Swift. Built here so that
        // they are checked with everything else; scripts/connectx-library makes what is shipped.
        .target(
            name: "CConnectx", dependencies: ["CTupleguardLinux"],
            exclude: ["connectx.3", "connectx.pc", "examples", "library", "python"]),
        .target(
            name: "ConnectxLibrary",
            dependencies: ["CConnectx", "CTupleguardLinux", "ConnectxCore", "TupleguardSockets"],
            swiftSettings: strict),

        // MARK: The guard

        // Without pkgConfig, which would warn users of the library that libbpf is missing.
        .systemLibrary(name: "CTupleguardLibbpf", providers: [.apt(["libbpf-dev"])]),
        .systemLibrary(name: "TupleguardABI", path: "bpf"),
        .plugin(
            name: "TupleguardBPFBuild", capability: .buildTool(), path: "Sources/TupleguardBPFBuild"
        ),
        .target(
            name: "TupleguardLinux", dependencies: ["CTupleguardLinux", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "TupleguardRecords",
            dependencies: ["ConnectxCore", "TupleguardLinux", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "TupleguardKernel",
            dependencies: [
                "CTupleguardLibbpf", "CTupleguardLinux", "TupleguardABI", "TupleguardLinux",
                "TupleguardRecords", "TupleguardSockets",
            ],
            swiftSettings: strict, plugins: ["TupleguardBPFBuild"]),

        // MARK: Programs whose bind() waits

        .target(name: "CTupleguardSeccomp"),
        .target(
            name: "TupleguardDeferral",
            dependencies: [
                "CTupleguardLinux", "CTupleguardSeccomp", "TupleguardLinux", "TupleguardSockets",
            ],
            swiftSettings: strict),

        // MARK: The agent, the diagnosis, the command

        .target(
            name: "TupleguardConntrack",
            dependencies: ["CTupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "TupleguardHostSurvey",
            dependencies: [
                "CTupleguardLinux", "TupleguardConntrack", "TupleguardLinux", "TupleguardRecords",
                "TupleguardSocketDiag", "TupleguardSockets",
            ],
            swiftSettings: strict),
        .target(
            name: "TupleguardDiagnosis",
            dependencies: [
                "TupleguardAgentClient", "TupleguardHostSurvey", "TupleguardKernel",
                "TupleguardLinux",
                "TupleguardRecords", "TupleguardSocketDiag", "TupleguardSockets",
            ],
            swiftSettings: strict),
        .target(
            name: "TupleguardLab",
            dependencies: [
                "CTupleguardLibbpf", "CTupleguardLinux", "Connectx", "TupleguardKernel",
                "TupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets",
            ],
            swiftSettings: strict, plugins: ["TupleguardBPFBuild"]),
        // Charts and pages, for whoever has something to show.
        .target(
            name: "TupleguardPictures", dependencies: ["TupleguardLinux"], swiftSettings: strict),
        .target(
            name: "TupleguardAgentClient",
            dependencies: ["TupleguardLinux", "TupleguardRecords", "TupleguardSockets"],
            swiftSettings: strict),
        .target(
            name: "TupleguardMetrics",
            dependencies: [
                "TupleguardAgentClient", "TupleguardDiagnosis", "TupleguardHostSurvey",
                "TupleguardKernel", "TupleguardLinux", "TupleguardRecords",
                "TupleguardSocketDiag", "TupleguardSockets",
            ],
            swiftSettings: strict),
        .target(
            name: "TupleguardAgent",
            dependencies: [
                "CTupleguardLinux", "ConnectxCore", "TupleguardAgentClient", "TupleguardHostSurvey",
                "TupleguardKernel",
                "TupleguardLinux", "TupleguardMetrics", "TupleguardRecords",
                "TupleguardSocketDiag",
                "TupleguardSockets", product("Logging", "swift-log"),
                product("NIOCore", "swift-nio"),
                product("NIOHTTP1", "swift-nio"), product("NIOPosix", "swift-nio"),
                product("ServiceLifecycle", "swift-service-lifecycle"),
                product("UnixSignals", "swift-service-lifecycle"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "tupleguard",
            dependencies: [
                "CTupleguardLinux", "Connectx", "ConnectxCore", "TupleguardAgent",
                "TupleguardDeferral", "TupleguardDiagnosis", "TupleguardHostSurvey",
                "TupleguardKernel", "TupleguardLab",
                "TupleguardLinux", "TupleguardMetrics", "TupleguardPictures",
                "TupleguardRecords",
                "TupleguardSocketDiag",
                "TupleguardSockets",
                product("ArgumentParser", "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // MARK: Tests

        .testTarget(
            name: "TupleguardSocketsTests", dependencies: ["TupleguardLinux", "TupleguardSockets"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardLinuxTests",
            dependencies: ["TupleguardLinux", "TupleguardSockets", "TupleguardTestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardSocketDiagTests",
            dependencies: ["CTupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardConntrackTests",
            dependencies: [
                "CTupleguardLinux", "TupleguardConntrack", "TupleguardSocketDiag",
                "TupleguardSockets",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ConnectxTests", dependencies: ["Connectx", "ConnectxCore", "TupleguardSockets"],
            swiftSettings: strict),
        .testTarget(
            name: "ConnectxNIOTests",
            dependencies: [
                "ConnectxNIO", product("NIOCore", "swift-nio", trait: "NIO"),
                product("NIOPosix", "swift-nio", trait: "NIO"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "ThreadTests", dependencies: ["Connectx", "TupleguardSockets"],
            swiftSettings: strict),
        .testTarget(
            name: "FuzzTests", dependencies: ["tupleguard"] + fuzzed,
            exclude: ["Corpus", "Program"], swiftSettings: strict),
        .testTarget(
            name: "TupleguardDiagnosisTests",
            dependencies: [
                "TupleguardConntrack", "TupleguardDiagnosis", "TupleguardHostSurvey",
                "TupleguardKernel", "TupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets",
                "TupleguardTestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardMetricsTests", dependencies: ["TupleguardMetrics"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardLabTests",
            dependencies: ["TupleguardLab", "TupleguardLinux", "TupleguardSockets"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardPicturesTests", dependencies: ["TupleguardPictures"],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardRecordsTests",
            dependencies: [
                "ConnectxCore", "TupleguardLinux", "TupleguardRecords", "TupleguardSockets",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardKernelTests",
            dependencies: [
                "CTupleguardLibbpf", "TupleguardABI", "TupleguardKernel", "TupleguardLinux",
                "TupleguardRecords", "TupleguardSockets", "TupleguardTestSupport",
            ],
            swiftSettings: strict),
        .testTarget(
            name: "TupleguardAgentTests",
            dependencies: [
                "CTupleguardTestSupport", "ConnectxCore", "TupleguardABI", "TupleguardAgent",
                "TupleguardAgentClient",
                "TupleguardHostSurvey", "TupleguardKernel", "TupleguardLinux",
                "TupleguardRecords", "TupleguardSockets", "TupleguardTestSupport",
                product("Logging", "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "tupleguardTests",
            dependencies: [
                "tupleguard", "Connectx", "TupleguardABI", "TupleguardAgent",
                "TupleguardAgentClient", "TupleguardKernel",
                "TupleguardLab", "TupleguardLinux", "TupleguardPictures", "TupleguardRecords",
                "TupleguardSockets", "TupleguardTestSupport",
                product("ArgumentParser", "swift-argument-parser"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "Integration",
            dependencies: [
                "CTupleguardLibbpf", "CTupleguardTestSupport", "Connectx", "ConnectxCore",
                "TupleguardAgent", "TupleguardAgentClient", "TupleguardKernel", "TupleguardLinux",
                "TupleguardRecords",
                "TupleguardSocketDiag", "TupleguardSockets", "TupleguardTestSupport", "tupleguard",
                "tupleguard-dialer", "tupleguard-meddler", "tupleguard-stress",
            ],
            swiftSettings: strict, plugins: ["TupleguardBPFBuild"]),

        .target(name: "CTupleguardTestSupport", path: "Tests/CTupleguardTestSupport"),
        .target(
            name: "TupleguardTestSupport",
            dependencies: [
                "CTupleguardLinux", "CTupleguardTestSupport", "TupleguardHostSurvey",
                "TupleguardKernel", "TupleguardLinux", "TupleguardSocketDiag", "TupleguardSockets",
            ],
            path: "Tests/TupleguardTestSupport", swiftSettings: strict),
        .target(name: "CTupleguardTechniques", path: "Tests/Programs/techniques"),
        .executableTarget(name: "tupleguard-dialer", path: "Tests/Programs/dialer"),
        .executableTarget(name: "tupleguard-meddler", path: "Tests/Programs/meddler"),
        .executableTarget(
            name: "tupleguard-stress", dependencies: ["CTupleguardTechniques"],
            path: "Tests/Programs/stress"),
        .executableTarget(
            name: "tupleguard-bench", dependencies: ["CTupleguardTechniques"],
            path: "Tests/Programs/bench", exclude: ["empty.bpf.c"],
            linkerSettings: [.linkedLibrary("bpf")]),
    ],
    swiftLanguageModes: [.v6]
)

// scripts/docs asks for it; nobody else is to fetch what only builds a web site.
if Context.environment["TUPLEGUARD_DOCS"] != nil {
    package.dependencies.append(
        .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0"))
}

// scripts/sanitize builds the library and its tests alone: with all that the agent needs, building
// takes longer than testing.
if Context.environment["TUPLEGUARD_LIBRARY_ONLY"] != nil {
    let kept = [
        "CConnectx", "CTupleguardLinux", "Connectx", "ConnectxCore", "ConnectxLibrary",
        "ConnectxTests", "ThreadTests", "TupleguardLinux",
        "TupleguardSocketDiag", "TupleguardSocketDiagTests", "TupleguardSockets",
        "TupleguardSocketsTests",
    ]
    package.dependencies = []
    package.products.removeAll { $0.name != "Connectx" }
    package.targets.removeAll { !kept.contains($0.name) }
}

// scripts/fuzz builds libFuzzer's program of what FuzzTests are made of, and what it looks into: of
// the command, which is a program itself, the part that reads the configuration file.
if Context.environment["TUPLEGUARD_FUZZ"] != nil {
    // This package only: after each input libFuzzer goes through the counters of all branches that
    // there are, and three of four would be other packages'.
    let watched = ["-sanitize=address,fuzzer"]
    package.products = []
    package.targets.removeAll { $0.type == .test || $0.type == .executable }
    for target in package.targets where target.type == .regular {
        if target.swiftSettings == nil {
            target.cSettings = [.unsafeFlags(["-fsanitize=address,fuzzer-no-link"])]
        } else {
            target.swiftSettings?.append(.unsafeFlags(watched))
        }
    }
    package.targets += [
        .target(
            name: "tupleguard",
            dependencies: [
                "TupleguardAgent", "TupleguardAgentClient", "TupleguardKernel", "TupleguardLinux",
                "TupleguardRecords", "TupleguardSockets",
                product("ArgumentParser", "swift-argument-parser"),
            ],
            path: "Sources/tupleguard", sources: ["Options", "Text/Terminal.swift"],
            swiftSettings: strict + [.unsafeFlags(watched)]),
        .executableTarget(
            name: "tupleguard-fuzz",
            dependencies: ["tupleguard"] + fuzzed,
            path: "Tests/FuzzTests", exclude: ["Corpus", "CorpusTests.swift"],
            swiftSettings: strict + [
                .unsafeFlags(watched), .enableExperimentalFeature("Extern"),
            ],
            // (gold fails at a second main(), which libFuzzer brings.)
            linkerSettings: [.unsafeFlags(watched + ["-use-ld=lld"])]),
    ]
}
