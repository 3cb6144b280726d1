// SPDX-License-Identifier: Apache-2.0
// tupleguard-fuzz: libFuzzer for one target, the one that TUPLEGUARD_FUZZ_TARGET names; "list"
// lists them, each with the length of its longest inputs. scripts/fuzz builds and runs it.

import Glibc

/// libFuzzer itself, which calls a function with one input after another.
@_extern(c, "LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// That of this process. (libFuzzer starts itself anew with the same environment.)
private let target: FuzzTarget = {
    let name = getenv("TUPLEGUARD_FUZZ_TARGET").map { String(cString: $0) }
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        fatalError("TUPLEGUARD_FUZZ_TARGET is none of \(FuzzTarget.all.map(\.name))")
    }
    return target
}()

@main
enum Fuzz {
    static func main() {
        if getenv("TUPLEGUARD_FUZZ_TARGET").map({ strcmp($0, "list") }) == 0 {
            for target in FuzzTarget.all { print(target.name, target.longest) }
            return
        }
        var (count, arguments) = (CommandLine.argc, CommandLine.unsafeArgv)
        let status = runFuzzer(&count, &arguments) { bytes, size in
            do {
                _ = try target.accepts(UnsafeRawBufferPointer(start: bytes, count: size))
            } catch {
                fatalError("\(target.name): \(error)")
            }
            return 0
        }
        exit(status)
    }
}
