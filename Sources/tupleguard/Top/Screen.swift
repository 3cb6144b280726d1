// SPDX-License-Identifier: Apache-2.0
// The whole terminal for a while: taken, written, and given back on every way out.

import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// The terminal on standard input and output, without echo and line editing, on its alternate
/// screen (xterm's, which terminals and multiplexers have).
///
/// Given back by `deinit`, and by a handler where this process crashes. SIGKILL alone leaves it as
/// it is (`reset` helps).
struct Screen: ~Copyable {
    private static let enter = "\u{1B}[?1049h\u{1B}[?25l"
    fileprivate static let leave: StaticString = "\u{1B}[0m\u{1B}[?25h\u{1B}[?1049l"
    private static let crashes = [SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGABRT, SIGFPE]

    /// - Throws: `Errno` when there is no terminal.
    init() throws(Errno) {
        var mode = termios()
        try Errno.check { tcgetattr(STDIN_FILENO, &mode) }
        savedMode = mode
        for signal in Self.crashes {
            Glibc.signal(signal) { number in
                restoreTerminal()
                Glibc.signal(number, SIG_DFL)
                raise(number)
            }
        }
        take()
    }

    deinit {
        restoreTerminal()
        for signal in Self.crashes { Glibc.signal(signal, SIG_DFL) }
    }

    /// Also again, after this process was stopped (SIGTSTP).
    func take() {
        var mode = savedMode
        // Signals still come from the keyboard: ^C, ^Z and ^\ mean what they always do.
        mode.c_lflag &= ~tcflag_t(ICANON | ECHO)
        withUnsafeMutableBytes(of: &mode.c_cc) { bytes in
            bytes[Int(VMIN)] = 0
            bytes[Int(VTIME)] = 0
        }
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &mode)
        Self.write(Self.enter)
    }

    /// For as long as this process is stopped.
    func giveBack() { restoreTerminal() }

    /// Shows these lines, from the top; what was there before goes.
    func show(_ lines: [String]) {
        // Line by line over what is there, for a screen that is cleared first flickers.
        Self.write(
            "\u{1B}[H" + lines.map { $0 + "\u{1B}[K" }.joined(separator: "\r\n") + "\u{1B}[J")
    }

    /// Bytes that were typed; empty when there are none, nil when the terminal has gone.
    func typed() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 64)
        let count = read(STDIN_FILENO, &buffer, buffer.count)
        if count < 0 { return errno == EINTR || errno == EAGAIN ? [] : nil }
        return Array(buffer[..<count])
    }

    private static func write(_ text: String) {
        var rest = Substring(text).utf8[...]
        while !rest.isEmpty {
            let count =
                rest.withContiguousStorageIfAvailable {
                    Glibc.write(STDOUT_FILENO, $0.baseAddress!, $0.count)
                } ?? -1
            if count < 0 {
                if errno == EINTR { continue }
                return
            }
            rest = rest.dropFirst(count)
        }
    }
}

/// What the terminal was like. Written before a handler may read it.
private nonisolated(unsafe) var savedMode = termios()

/// Calls only what a signal handler may (signal-safety(7)).
private func restoreTerminal() {
    _ = Glibc.write(STDOUT_FILENO, Screen.leave.utf8Start, Screen.leave.utf8CodeUnitCount)
    tcsetattr(STDIN_FILENO, TCSADRAIN, &savedMode)
}
