// SPDX-License-Identifier: Apache-2.0
// Signals as something to read (signalfd(2)), for a loop that waits for other things as well.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// Signals that are blocked, and read from a descriptor instead.
struct SignalDescriptor: ~Copyable {
    private let descriptor: OwnedDescriptor
    private let before: sigset_t

    var raw: Int32 { descriptor.raw }

    /// Blocks these signals in the calling thread, and in those that it makes from here on.
    init(_ signals: [Int32]) throws(Errno) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        var before = sigset_t()
        pthread_sigmask(SIG_BLOCK, &set, &before)
        self.before = before
        descriptor = try OwnedDescriptor {
            signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        }
    }

    deinit {
        var before = before
        pthread_sigmask(SIG_SETMASK, &before, nil)
    }

    /// The next that has come; nil when there is none.
    func next() -> Int32? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        return read(raw, &info, size) == size ? Int32(info.ssi_signo) : nil
    }

    /// Ends this process by a signal, as it would have without us.
    consuming func die(of signal: Int32) -> Never {
        Glibc.signal(signal, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, signal)
        raise(signal)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
        // Only a signal that does not end a process gets here.
        _exit(128 + signal)
    }
}
