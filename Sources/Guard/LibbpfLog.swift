// SPDX-License-Identifier: Apache-2.0
// What libbpf prints, kept for error messages instead of written to stderr.

import CLibbpf
import Glibc
import Synchronization

enum LibbpfLog {
    private static let lines = Mutex<[String]>([])
    private static let isVerbose = getenv("TUPLEGUARD_DEBUG") != nil

    /// From now on libbpf's messages come here. With TUPLEGUARD_DEBUG set they go to stderr too.
    static let install: Void = {
        _ = libbpf_set_print { level, format, arguments in
            guard let format, let arguments, level != LIBBPF_DEBUG else { return 0 }
            var buffer = [CChar](repeating: 0, count: 2048)
            vsnprintf(&buffer, buffer.count, format, arguments)
            let text = String(
                decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            LibbpfLog.keep(text)
            return 0
        }
    }()

    private static func keep(_ text: String) {
        if isVerbose { _ = text.withCString { write(STDERR_FILENO, $0, strlen($0)) } }
        lines.withLock { lines in
            lines += text.split(separator: "\n").map(String.init)
            if lines.count > 50 { lines.removeFirst(lines.count - 50) }
        }
    }

    /// The last thing that libbpf complained of since the last call, in a line.
    static func takeDetail() -> String {
        lines.withLock { lines in
            defer { lines = [] }
            let telling = lines.filter { $0.hasPrefix("libbpf: ") && !$0.contains("-- ") }
            return telling.last.map { "libbpf says: " + $0.dropFirst("libbpf: ".count) } ?? ""
        }
    }
}
