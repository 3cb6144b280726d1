// SPDX-License-Identifier: Apache-2.0
// The text that Prometheus reads, in both formats.

import Testing
import TupleguardMetrics

@Suite struct Exposition {
    private let families: [MetricFamily] = {
        var refused = MetricFamily("x_refused", .counter, "Refused.\nOr not.")
        refused.add([("reason", "held"), ("cgroup", "/a")], 3)
        refused.add([("reason", "busy"), ("cgroup", "/a")], 0)
        var build = MetricFamily("x_build", .info, "Version.")
        build.add([("version", "1")], 1)
        var seconds = MetricFamily("x_seconds", .gauge, "Duration.")
        seconds.add([], .real(0.25))
        return [refused, build, seconds, MetricFamily("x_nothing", .gauge, "No samples.")]
    }()

    @Test func openMetricsNamesTheFamilyAndEnds() {
        #expect(
            ExpositionFormat.openMetrics.render(families) == """
                # HELP x_refused Refused.\\nOr not.
                # TYPE x_refused counter
                x_refused_total{reason="held",cgroup="/a"} 3
                x_refused_total{reason="busy",cgroup="/a"} 0
                # HELP x_build Version.
                # TYPE x_build info
                x_build_info{version="1"} 1
                # HELP x_seconds Duration.
                # TYPE x_seconds gauge
                x_seconds 0.25
                # EOF

                """)
    }

    @Test func theOlderFormatNamesTheSamples() {
        #expect(
            ExpositionFormat.prometheusText.render(families) == """
                # HELP x_refused_total Refused.\\nOr not.
                # TYPE x_refused_total counter
                x_refused_total{reason="held",cgroup="/a"} 3
                x_refused_total{reason="busy",cgroup="/a"} 0
                # HELP x_build_info Version.
                # TYPE x_build_info gauge
                x_build_info{version="1"} 1
                # HELP x_seconds Duration.
                # TYPE x_seconds gauge
                x_seconds 0.25

                """)
    }

    @Test func theFormatIsTheOneAskedFor() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        #expect(ExpositionFormat(accepting: prometheus) == .openMetrics)
        #expect(ExpositionFormat(accepting: "text/html, */*") == .prometheusText)
        #expect(ExpositionFormat(accepting: "") == .prometheusText)
    }

    @Test(arguments: [
        (#"a\b"c"#, #"a\\b\"c"#),
        ("two\nlines", #"two\nlines"#),
        ("\u{1B}[31m\u{9B}x\u{0}", "?[31m?x?"),
        ("/machine.slice/é", "/machine.slice/é"),
    ])
    func labelsAreEscaped(value: String, written: String) {
        #expect(line("name", value) == #"x{name="\#(written)"} 1"#)
    }

    @Test func labelsAreBounded() {
        let long = String(repeating: "x", count: 5000)
        #expect(line("name", long).count < 300)
    }

    private func line(_ name: String, _ value: String) -> String {
        var family = MetricFamily("x", .gauge, "X.")
        family.add([(name, value)], 1)
        let lines = ExpositionFormat.prometheusText.render([family]).split(separator: "\n")
        return String(lines.last ?? "")
    }

    /// Prometheus refuses a whole scrape for one sample that comes twice.
    @Test func samplesOfOneNameBecomeOne() {
        var counter = MetricFamily("c", .counter, "C.")
        var gauge = MetricFamily("g", .gauge, "G.")
        for value in [3, 5, 4] {
            counter.add([("a", "1")], value)
            gauge.add([("a", "1")], value)
        }
        let text = ExpositionFormat.prometheusText.render([counter, gauge])
        #expect(text.contains("c_total{a=\"1\"} 12\n"))
        #expect(text.contains("g{a=\"1\"} 5\n"))
        #expect(text.split(separator: "\n").count == 6)
    }
}
