// SPDX-License-Identifier: Apache-2.0
// The agent reads datagrams that anybody may have sent.
import ConnectxCore
import Testing
import TupleguardSockets

struct ReportFuzzTests {
    private static func datagrams() -> [[UInt8]] {
        let names = [
            "192.0.2.1:40000", "[2001:db8::7]:53", "[::]:0", "255.255.255.255:65535", "[::1]:1",
        ].compactMap { Endpoint($0) }
        var all: [[UInt8]] = []
        for kind in Notice.Kind.allCases {
            for transport in Transport.allCases {
                for local in names {
                    let report = Notice(
                        kind: kind, transport: transport,
                        tuple: FourTuple(local: local, remote: names[1]), count: .max)
                    all.append(withUnsafeBytes(of: report.bytes) { Array($0) })
                }
            }
        }
        return all
    }

    @Test("Every datagram is refused, or is exactly what the report that it makes is sent as")
    func reports() {
        var fuzzer = Fuzzer(seed: 0x7265_706f_7274, valid: Self.datagrams())
        var accepted = 0
        var unlike = 0
        for _ in 0..<Fuzzer.inputs {
            let input = fuzzer.next()
            withExactMemory(input) { bytes in
                guard let report = Notice(bytes) else { return }
                accepted += 1
                if !withUnsafeBytes(of: report.bytes, { $0.elementsEqual(bytes) }) { unlike += 1 }
                let hasPorts = report.tuple.local.port != 0 || report.kind == .exhausted
                if report.count == 0 || report.tuple.remote.port == 0 || !hasPorts { unlike += 1 }
            }
        }
        #expect(unlike == 0)
        // Otherwise it has tried nothing but the first check.
        #expect(accepted > Fuzzer.inputs / 20)
        #expect(accepted < Fuzzer.inputs / 2 + Fuzzer.inputs / 4)
    }
}
