// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

/// Every target of the package: warnings are errors.
let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

let package = Package(
    name: "tupleguard",
    products: [
        .executable(name: "tupleguard", targets: ["tupleguard"]),
        .library(name: "Connectx", targets: ["Connectx", "Net"]),
    ],
    dependencies: [
        // Subcommands, help, completions.
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        // The agent's log, in the form that every Swift service uses.
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        // Ends the agent's parts in order when a signal arrives.
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        // HTTP on the agent's socket.
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .systemLibrary(name: "CLibbpf", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev"])]),
        .target(name: "CLinux"),
        .systemLibrary(name: "GuardABI", path: "bpf"),
        .plugin(name: "BPFBuild", capability: .buildTool(), path: "Sources/BPFBuild"),

        .target(name: "Net", dependencies: ["CLinux"], swiftSettings: strict),
        .target(name: "SocketDiag", dependencies: ["CLinux", "Net"], swiftSettings: strict),
        .target(
            name: "Connectx", dependencies: ["CLinux", "Net", "SocketDiag"], swiftSettings: strict),
        .target(name: "Inventory", dependencies: ["Net", "SocketDiag"], swiftSettings: strict),
        .target(
            name: "Diagnosis", dependencies: ["Inventory", "Net", "SocketDiag"],
            swiftSettings: strict),
        .target(
            name: "Lab", dependencies: ["CLinux", "Connectx", "Net", "SocketDiag"],
            swiftSettings: strict),
        .target(
            name: "Guard", dependencies: ["CLibbpf", "CLinux", "GuardABI", "Net"],
            swiftSettings: strict, plugins: ["BPFBuild"]),
        .target(
            name: "Agent",
            dependencies: [
                "CLinux", "Guard", "Inventory", "Net", "SocketDiag",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "tupleguard",
            dependencies: [
                "Agent", "Connectx", "Diagnosis", "Guard", "Inventory", "Lab", "Net", "SocketDiag",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        .testTarget(name: "NetTests", dependencies: ["Net"], swiftSettings: strict),
        .testTarget(
            name: "ConnectxTests", dependencies: ["Connectx", "Net"], swiftSettings: strict),
        .testTarget(name: "LabTests", dependencies: ["Lab", "Net"], swiftSettings: strict),
        .testTarget(
            name: "SocketDiagTests", dependencies: ["CLinux", "Net", "SocketDiag"],
            swiftSettings: strict),
        .testTarget(
            name: "FuzzTests", dependencies: ["CLinux", "Net", "SocketDiag"], swiftSettings: strict),
        .testTarget(
            name: "ThreadTests", dependencies: ["Connectx", "Net"], swiftSettings: strict),
        .testTarget(
            name: "DiagnosisTests",
            dependencies: ["Diagnosis", "Inventory", "Net", "SocketDiag", "TestSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "GuardTests",
            dependencies: ["TestSupport", "CLibbpf", "Guard", "GuardABI", "Net"],
            swiftSettings: strict),
        .testTarget(
            name: "AgentTests",
            dependencies: [
                "Agent", "CTestSupport", "Guard", "GuardABI", "Inventory", "Net", "TestSupport",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "tupleguard", "Agent", "Guard", "GuardABI", "Lab", "Net",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        .target(name: "CTestSupport", path: "Tests/CTestSupport"),
        .target(
            name: "TestSupport",
            dependencies: ["CLinux", "CTestSupport", "Guard", "Net", "SocketDiag"],
            path: "Tests/TestSupport", swiftSettings: strict),
        .target(name: "CTechniques", path: "Tests/CTechniques"),
        .executableTarget(name: "tupleguard-dialer", path: "Tests/Dialer"),
        .executableTarget(
            name: "tupleguard-stress", dependencies: ["CTechniques"], path: "Tests/Stress"),
        .executableTarget(
            name: "tupleguard-bench", dependencies: ["CTechniques"], path: "Tests/Bench",
            exclude: ["lookup.bpf.c"],
            linkerSettings: [.linkedLibrary("bpf")]),
        .testTarget(
            name: "Integration",
            dependencies: [
                "TestSupport", "CTestSupport", "Agent", "Connectx", "Guard", "Net", "SocketDiag",
                "CLibbpf", "tupleguard", "tupleguard-stress", "tupleguard-dialer",
            ],
            path: "Tests/Integration", swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
