// SPDX-License-Identifier: Apache-2.0
// What libbpf prints, kept for error messages instead of written to stderr.

import CTupleguardLibbpf
import Glibc
import Synchronization

enum LibbpfLog {
    private static let lines = Mutex<[String]>([])
    private static let isVerbose = getenv("TUPLEGUARD_DEBUG") != nil

    /// The verifier's log comes as one message of up to 16 MiB; what matters is its end.
    private static let longestMessage = 17 << 20

    /// From now on libbpf's messages come here. With TUPLEGUARD_DEBUG set they go to stderr too.
    static let install: Void = {
        _ = libbpf_set_print { level, format, arguments in
            guard let format, let arguments, level != LIBBPF_DEBUG,
                let buffer = malloc(LibbpfLog.longestMessage)
            else { return 0 }
            defer { free(buffer) }
            let text = buffer.assumingMemoryBound(to: CChar.self)
            vsnprintf(text, LibbpfLog.longestMessage, format, arguments)
            LibbpfLog.keep(String(cString: text))
            return 0
        }
    }()

    private static func keep(_ text: String) {
        if isVerbose { _ = text.withCString { write(STDERR_FILENO, $0, strlen($0)) } }
        lines.withLock { lines in
            lines += text.split(separator: "\n").suffix(8).map(String.init)
            if lines.count > 50 { lines.removeFirst(lines.count - 50) }
        }
    }

    /// What libbpf complained of since the last call, in a line: the verifier's
    /// verdict where there is one, else its last words.
    static func takeDetail() -> String {
        lines.withLock { lines in
            defer { lines = [] }
            if let end = lines.lastIndex(where: { $0.hasPrefix("processed ") }), end > 0 {
                return "the verifier says: \(lines[end - 1])"
            }
            let last = lines.last { $0.hasPrefix("libbpf: ") && !$0.contains("-- ") }
            return last.map { "libbpf says: " + $0.dropFirst("libbpf: ".count) } ?? ""
        }
    }
}
