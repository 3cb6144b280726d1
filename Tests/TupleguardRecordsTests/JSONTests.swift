// SPDX-License-Identifier: Apache-2.0
// JSON that scripts may lean on.

import Testing

@testable import TupleguardRecords

struct JSONTests {
    @Test("Fields in snake case and alphabetical order, on one line, slashes as they are")
    func encoding() {
        struct Sample: Encodable {
            let zebra = 1
            let camelCaseName = "/a/b"
            let cgroupId: UInt64 = .max
            let isNot: Bool? = nil
            let nested = ["b", "a\n\"\\"]
        }
        #expect(
            encodeJSON(Sample())
                == #"{"camel_case_name":"/a/b","cgroup_id":18446744073709551615,"nested":["b","a\n\"\\"],"zebra":1}"#
        )
    }

    @Test("The keys of a dictionary are data, and stay as they are")
    func dictionaries() {
        #expect(
            encodeJSON(["refused_held": UInt64(1), "camelCase": 2])
                == #"{"camelCase":2,"refused_held":1}"#)
    }

    @Test("Nothing")
    func empty() {
        #expect(encodeJSON([String]()) == "[]")
        #expect(encodeJSON([String: Int]()) == "{}")
    }
}
