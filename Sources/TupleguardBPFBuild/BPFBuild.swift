// SPDX-License-Identifier: Apache-2.0
// Build-tool plugin: compiles the programs of bpf/ with the toolchain's clang and
// embeds the objects as Swift literals in the target that uses the plugin.
import Foundation
import PackagePlugin

@main
struct TupleguardBPFBuild: BuildToolPlugin {
    /// By target: which sources it embeds, of bpf/ or the tests' own, and under what names.
    private static let objects = [
        "TupleguardKernel": [
            ("guard", "guardObject"), ("outsiders", "outsidersObject"), ("seed", "seedObject"),
            ("sweep", "sweepObject"),
        ],
        "TupleguardLab": [("lookup", "lookUpObject")],
        "Integration": [("rewriter", "rewriterObject")],
    ]

    func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
        let folder = target.name == "Integration" ? "Tests/Programs/rewriter" : "bpf"
        let sources = context.package.directoryURL.appending(path: folder)
        let script = context.package.directoryURL.appending(path: "scripts/embed-bpf")
        let inputs = try FileManager.default.contentsOfDirectory(
            at: sources, includingPropertiesForKeys: nil
        ).filter { ["c", "h"].contains($0.pathExtension) }
        let clang = try context.tool(named: "clang").url
        return (Self.objects[target.name] ?? []).map { source, name in
            let output = context.pluginWorkDirectoryURL.appending(path: "\(name).swift")
            return .buildCommand(
                displayName: "Compiling \(source).bpf.c",
                executable: URL(filePath: "/bin/sh"),
                arguments: [
                    script.path(), clang.path(),
                    sources.appending(path: "\(source).bpf.c").path(), output.path(), name,
                ],
                inputFiles: inputs + [script],
                outputFiles: [output])
        }
    }
}
