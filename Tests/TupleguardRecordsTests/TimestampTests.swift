// SPDX-License-Identifier: Apache-2.0
// Times: as machines read them, and back; as people do.

import Glibc
import Testing

@testable import TupleguardRecords

private func time(_ nanoseconds: UInt64) -> Timestamp {
    Timestamp(nanosecondsSince1970: nanoseconds)
}

struct TimestampTests {
    @Test(
        "RFC 3339 in UTC, to the millisecond, rounded down",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"),
            (999_999, "1970-01-01T00:00:00.000Z"),
            (1_000_000, "1970-01-01T00:00:00.001Z"),
            (999_999_999, "1970-01-01T00:00:00.999Z"),
            (1_000_000_000, "1970-01-01T00:00:01.000Z"),
            (1_769_860_800_000_000_000, "2026-01-31T12:00:00.000Z"),
            (1_769_860_800_012_000_000, "2026-01-31T12:00:00.012Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999Z"),
            (.max, "2554-07-21T23:34:33.709Z"),
        ] as [(UInt64, String)])
    func text(nanoseconds: UInt64, text: String) {
        #expect(time(nanoseconds).description == text)
        #expect(encodeJSON([time(nanoseconds)]) == #"["\#(text)"]"#)
    }

    @Test(
        "Read again, to the millisecond",
        arguments: [0, 1_000_000, 1_769_860_800_012_000_000, 1_709_251_199_999_000_000]
            as [UInt64])
    func roundTrip(nanoseconds: UInt64) {
        #expect(Timestamp(time(nanoseconds).description) == time(nanoseconds))
        #expect(Timestamp(time(nanoseconds + 999_999).description) == time(nanoseconds))
        #expect(decodeJSON(encodeJSON([time(nanoseconds)])) == [time(nanoseconds)])
    }

    @Test(
        "Other text is no time",
        arguments: [
            "", "now", "2026-01-31", "2026-01-31T12:00:00Z", "2026-13-31T12:00:00.000Z",
            "2026-02-30T12:00:00.000Z", "2026-01-31 12:00:00.000", "1969-12-31T23:59:59.999Z",
            "2026-01-31T12:00:00.0000Z", "9999999999-01-31T12:00:00.000Z",
            "2147483647-01-01T00:00:00.000Z", "2554-07-21T23:34:33.710Z",
        ])
    func garbage(text: String) {
        #expect(Timestamp(text) == nil)
        let decoded: [Timestamp]? = decodeJSON(encodeJSON([text]))
        #expect(decoded == nil)
    }

    @Test("A reading of the monotonic clock is the moment at which it was read")
    func monotonic() {
        var clock = timespec()
        let before = Timestamp.now
        clock_gettime(CLOCK_MONOTONIC, &clock)
        let after = Timestamp.now
        let nanoseconds = UInt64(clock.tv_sec) * 1_000_000_000 + UInt64(clock.tv_nsec)
        let read = Timestamp(monotonic: nanoseconds).nanosecondsSince1970
        // The two clocks cannot be read in the same instant.
        let tolerance: UInt64 = 50_000_000
        #expect(read + tolerance >= before.nanosecondsSince1970)
        #expect(read <= after.nanosecondsSince1970 + tolerance)
    }

    @Test("A reading that no clock gives is no reason to crash")
    func absurd() {
        for reading in [0, .max, UInt64(Int64.max), 1 << 63] as [UInt64] {
            #expect(!Timestamp(monotonic: reading).description.isEmpty)
        }
    }
}

struct AgeTests {
    private func age(secondsAgo: UInt64) -> String {
        time(Timestamp.now.nanosecondsSince1970 - secondsAgo * 1_000_000_000).age
    }

    // From the middle of each step, so that the clock may go on while the test runs.
    @Test(
        "How long ago, in a unit that suits it",
        arguments: [
            (150, "2m"), (5400, "90m"), (7170, "119m"), (9000, "2h"), (131_400, "36h"),
            (171_000, "47h"), (216_000, "2d"), (34_603_200, "400d"),
        ] as [(UInt64, String)])
    func ages(seconds: UInt64, text: String) {
        #expect(age(secondsAgo: seconds) == text)
    }

    @Test("Seconds for the first two minutes")
    func seconds() throws {
        let text = age(secondsAgo: 30)
        #expect(text.hasSuffix("s"))
        let count = try #require(Int(text.dropLast()))
        #expect((30..<120).contains(count))
    }

    @Test("What is still to come is not long ago")
    func future() {
        #expect(time(Timestamp.now.nanosecondsSince1970 + 1_000_000_000_000).age == "0s")
        #expect(time(.max).age == "0s")
    }

    @Test("1970 is some days ago")
    func epoch() throws {
        #expect(try #require(Int(time(0).age.dropLast())) > 20_000)
        #expect(time(0).age.hasSuffix("d"))
    }
}

struct ClockTests {
    @Test("Local time, to the second")
    func localTime() throws {
        for nanoseconds in [0, 1_769_860_800_012_000_000, 1_720_000_000_999_999_999] as [UInt64] {
            let text = time(nanoseconds).clock
            #expect(text.contains(#/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/#))
            let parts = try text.split(whereSeparator: { !$0.isNumber }).map {
                try #require(Int32($0))
            }
            try #require(parts.count == 6)
            var fields = tm()
            fields.tm_year = parts[0] - 1900
            fields.tm_mon = parts[1] - 1
            fields.tm_mday = parts[2]
            fields.tm_hour = parts[3]
            fields.tm_min = parts[4]
            fields.tm_sec = parts[5]
            fields.tm_isdst = -1
            #expect(mktime(&fields) == Int(nanoseconds / 1_000_000_000))
        }
    }

    @Test("Local is where TZ says")
    func timeZone() async {
        await #expect(processExitsWith: .success) {
            setenv("TZ", "UTC0", 1)
            tzset()
            #expect(time(1_769_860_800_012_000_000).clock == "2026-01-31 12:00:00")
        }
        await #expect(processExitsWith: .success) {
            setenv("TZ", "XXX-5:30", 1)
            tzset()
            #expect(time(1_769_860_800_012_000_000).clock == "2026-01-31 17:30:00")
        }
    }
}
