// SPDX-License-Identifier: Apache-2.0
// Build-tool plugin: compiles bpf/guard.bpf.c with the toolchain's clang and
// embeds the object as a Swift literal in the target that uses the plugin.
import Foundation
import PackagePlugin

@main
struct BPFBuild: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
        let sources = context.package.directoryURL.appending(path: "bpf")
        let output = context.pluginWorkDirectoryURL.appending(path: "GuardObject.swift")
        let script = context.package.directoryURL.appending(path: "scripts/embed-bpf")
        let inputs = try FileManager.default.contentsOfDirectory(
            at: sources, includingPropertiesForKeys: nil
        ).filter { ["c", "h"].contains($0.pathExtension) }
        return [
            .buildCommand(
                displayName: "Compiling the guard's BPF programs",
                executable: URL(filePath: "/bin/sh"),
                arguments: [
                    script.path(), try context.tool(named: "clang").url.path(),
                    sources.appending(path: "guard.bpf.c").path(), output.path(),
                ],
                inputFiles: inputs + [script],
                outputFiles: [output])
        ]
    }
}
