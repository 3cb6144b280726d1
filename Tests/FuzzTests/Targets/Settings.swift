// SPDX-License-Identifier: Apache-2.0
// The settings and counts of a network namespace, as the library reads them at each connect.

@testable import ConnectxCore

/// Whatever the files say, there is a range of ports, and a count of sockets that is none or real.
@Sendable func acceptsSettings(_ input: UnsafeRawBufferPointer) throws -> Bool {
    var space = PortSpace()
    let before = space.range
    space.takeRange(input)
    space.takeReserved(input)
    let sockets = PortSpace.count(in: input, after: "UDP: inuse ")
    try require(sockets.map { (0...65_535).contains($0) } ?? true, "so many sockets")
    if space.hasReserved {
        var isAnyReserved = false
        for port in UInt16.min...UInt16.max where space.isReserved(port) {
            isAnyReserved = true
            break
        }
        try require(isAnyReserved, "ports are reserved of which none is")
    }
    return sockets != nil || space.range != before
}
