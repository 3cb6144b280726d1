// SPDX-License-Identifier: Apache-2.0
// The kernel's clocks, and waiting by them.

import Glibc

/// Clocks of clock_gettime(2), in nanoseconds.
///
/// The library reads CLOCK_MONOTONIC_COARSE itself: it has no module of the system below it.
package enum KernelClock {
    /// CLOCK_MONOTONIC, by which BPF programs tell the time too.
    package static var monotonic: UInt64 { now(CLOCK_MONOTONIC) }

    /// CLOCK_REALTIME: since 1970.
    package static var realTime: UInt64 { now(CLOCK_REALTIME) }

    private static func now(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// The time of day at a reading of `monotonic`.
    package static func realTime(atMonotonic reading: UInt64) -> UInt64 {
        let offset = Int64(realTime) - Int64(monotonic)
        let (sum, overflow) = Int64(bitPattern: reading).addingReportingOverflow(offset)
        return overflow ? UInt64(Int64.max) : UInt64(max(0, sum))
    }
}

/// Waits, to the millisecond.
package func sleep(seconds: Double) {
    usleep(UInt32(min(seconds, 4000) * 1_000_000))
}
