// SPDX-License-Identifier: Apache-2.0
// tupleguard-fuzz: what libFuzzer, which has main(), calls. The target is the one that
// TUPLEGUARD_FUZZ_TARGET names; "list" lists them. scripts/fuzz builds and runs it.

import Glibc

/// That of this process. (libFuzzer starts itself anew with the same environment.)
private let target: FuzzTarget = {
    let name = getenv("TUPLEGUARD_FUZZ_TARGET").map { String(cString: $0) }
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        fatalError("TUPLEGUARD_FUZZ_TARGET is none of \(FuzzTarget.all.map(\.name))")
    }
    return target
}()

@_cdecl("LLVMFuzzerInitialize")
func initialize(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>
) -> Int32 {
    if getenv("TUPLEGUARD_FUZZ_TARGET").map({ strcmp($0, "list") }) == 0 {
        for target in FuzzTarget.all { print(target.name) }
        exit(EXIT_SUCCESS)
    }
    return 0
}

@_cdecl("LLVMFuzzerTestOneInput")
func test(_ bytes: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    do {
        _ = try target.accepts(UnsafeRawBufferPointer(start: bytes, count: size))
    } catch {
        fatalError("\(target.name): \(error)")
    }
    return 0
}
