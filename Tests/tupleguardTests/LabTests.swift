// SPDX-License-Identifier: Apache-2.0
// The lab's arguments, and how its numbers are written.

import Testing

@testable import TupleguardLab
@testable import tupleguard

@Suite struct LabArgumentTests {
    @Test func refusesWhatMakesNoSense() {
        expectRefusal("lab --only tcp-conect", "there is no such row")
        expectRefusal("lab --only tcp-conect", "tcp-connect, tcp-bind")
        expectRefusal("lab --only ,", "name at least one row")
        expectRefusal("lab --json --markdown", "choose --json or --markdown")
        expectRefusal("lab --contend 0", "between 0.01 and 3600 seconds")
        expectRefusal("lab --svg cots", "capacity")
        expectRefusal("lab --svg cost --json", "leave --json, --markdown and --html out")
        expectRefusal("lab --svg cost --html x", "leave --json, --markdown and --html out")
        expectRefusal("lab --html - --json", "name a file")
        expectRefusal(["lab", "--html", ""], "--html")
    }

    @Test(arguments: ["tcp", "udp-guard,retry", "unix"])
    func takesNamesAndGroups(_ only: String) throws {
        _ = try parse(Lab.self, "lab --only \(only) --thorough --markdown")
    }

    @Test func whatIsLeftFollowsTheMachine() {
        let start = ContinuousClock.now
        var forecast = Forecast([10, 10, 20, 300])
        forecast.beginNext(at: start)
        #expect(forecast.left(at: start) == "about 5 min left")
        forecast.beginNext(at: start + .seconds(10))
        #expect(forecast.left(at: start + .seconds(10)) == "about 5 min left")
        forecast.beginNext(at: start + .seconds(42))
        // Twice as slow as expected.
        #expect(forecast.left(at: start + .seconds(42)) == "about 10 min left")
        #expect(forecast.begun == 3)
        #expect(Forecast([1, 2]).left(at: start) == "about 3 s left")
    }

    @Test(arguments: [(1, "1 in 10^16"), (10, "1 in 10^8"), (50, "1 in 256"), (20, "1 in 390,625")])
    func oddsInWords(_ percent: Int, _ text: String) {
        #expect(RetryReport(busyPercent: percent).odds == text)
    }

    @Test func oneAttemptInPerCent() {
        var report = RetryReport(busyPercent: 10)
        #expect(report.single == "")
        report.attempts = 1000
        report.collisions = 99
        #expect(report.single == "9.9%")
    }
}
