// SPDX-License-Identifier: Apache-2.0
// A moment: what clocks give, as machines read it and as people do.

import Glibc
import TupleguardLinux

/// A moment of the time of day.
package struct Timestamp: Hashable, Comparable, Sendable {
    package let nanosecondsSince1970: UInt64

    package init(nanosecondsSince1970: UInt64) {
        self.nanosecondsSince1970 = nanosecondsSince1970
    }

    /// This moment (CLOCK_REALTIME).
    package static var now: Timestamp {
        Timestamp(nanosecondsSince1970: KernelClock.realTime)
    }

    /// The moment of a reading of CLOCK_MONOTONIC.
    package init(monotonic: UInt64) {
        nanosecondsSince1970 = KernelClock.realTime(atMonotonic: monotonic)
    }

    package static func < (a: Timestamp, b: Timestamp) -> Bool {
        a.nanosecondsSince1970 < b.nanosecondsSince1970
    }

    package var secondsSince1970: UInt64 { nanosecondsSince1970 / 1_000_000_000 }

    // MARK: - For people

    /// As a clock on the wall shows it: local time, to the second.
    package var clock: String {
        var seconds = time_t(secondsSince1970)
        var fields = tm()
        localtime_r(&seconds, &fields)
        var buffer = [CChar](repeating: 0, count: 32)
        strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S", &fields)
        return String(
            decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// "5s", "3m", "2h", "9d": how long ago.
    package var age: String {
        let now = Timestamp.now.secondsSince1970
        let seconds = now - min(now, secondsSince1970)
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<7200: return "\(seconds / 60)m"
        case ..<172_800: return "\(seconds / 3600)h"
        default: return "\(seconds / 86_400)d"
        }
    }
}

// MARK: - For machines

/// RFC 3339 in UTC, to the millisecond: "2026-01-31T12:00:00.000Z". (FoundationEssentials' ISO 8601
/// style prints .122 for .123.)
extension Timestamp: CustomStringConvertible {
    package var description: String {
        var seconds = time_t(secondsSince1970)
        var fields = tm()
        gmtime_r(&seconds, &fields)
        func digits(_ number: Int32, _ width: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        let date = [
            digits(fields.tm_year + 1900, 4), digits(fields.tm_mon + 1, 2),
            digits(fields.tm_mday, 2),
        ].joined(separator: "-")
        let time = [fields.tm_hour, fields.tm_min, fields.tm_sec].map { digits($0, 2) }
            .joined(separator: ":")
        let milliseconds = Int32(nanosecondsSince1970 / 1_000_000 % 1000)
        return "\(date)T\(time).\(digits(milliseconds, 3))Z"
    }

    /// Reads what `description` writes; nil for other text.
    package init?(_ text: String) {
        let numbers = text.split { !$0.isASCII || !$0.isNumber }.compactMap { Int32($0) }
        guard numbers.count == 7 else { return nil }
        var fields = tm()
        (fields.tm_year, fields.tm_mon, fields.tm_mday) = (
            numbers[0] - 1900, numbers[1] - 1, numbers[2]
        )
        (fields.tm_hour, fields.tm_min, fields.tm_sec) = (numbers[3], numbers[4], numbers[5])
        let seconds = timegm(&fields)
        // Beyond the year 2554 there is no room for the nanoseconds.
        guard let seconds = UInt64(exactly: seconds), seconds < UInt64.max / 1_000_000_000 - 1,
            (0..<1000).contains(numbers[6])
        else { return nil }
        self.init(
            nanosecondsSince1970: seconds * 1_000_000_000 + UInt64(numbers[6]) * 1_000_000)
        // Which makes nothing of a 13th month, nor of another form.
        if description != text { return nil }
    }
}

extension Timestamp: Codable {
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let time = Timestamp(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "not a time as it is written here")
        }
        self = time
    }
}
