// SPDX-License-Identifier: Apache-2.0
// What has to be on a picture of rows, however wide it is.

import Testing

@testable import TupleguardPictures

@Suite struct RowChartTests {
    private func svg(_ chart: RowChart, _ width: Double) -> String {
        chart.drawn(width: width, id: "x").svg(id: "x", label: "", class: "").description
    }

    /// Each of the texts of a picture.
    private func texts(_ svg: String) -> [String] {
        svg.split(separator: "<text").dropFirst().map { piece in
            String(piece.drop { $0 != ">" }.dropFirst().prefix { $0 != "<" })
        }
    }

    /// The end of a name is what tells it from others.
    @Test(arguments: [736, 340] as [Double])
    func longNamesAndLabelsAreWhole(_ width: Double) {
        let name =
            "tcp 2001:db8:1234:5678::1 to 2001:db8:8765:4321::2:443 in the network namespace of web-7"
        let label = "28,232 of 28,232 ports there are, +1,234/s, full in 12 minutes or a bit more"
        let bar: RowChart.Mark = .bar([(0, 1)])
        let rows: [RowChart.Row] = [
            .init(name, [(bar, "1")]), .init("short", [(bar, label)]),
            .init(name, [(bar, label), (bar, label)]),
        ]
        for row in rows {
            let svg = svg(RowChart([row], axis: Axis("%")), width)
            let text = texts(svg).joined(separator: " ")
            #expect(text.contains(row.name))
            for (_, label) in row.marks { #expect(text.contains(label)) }
            #expect(!svg.contains("…"))
        }
    }

    @Test func namesThatHaveRoomAreBesideTheirBars() {
        let row = RowChart.Row("short", [(.bar([(0, 1)]), "1")])
        let chart = RowChart([row], axis: Axis("%"))
        let height = chart.drawn(width: 736, id: "x").height
        #expect(height < chart.drawn(width: 340, id: "x").height)
        let long = RowChart(
            [.init(String(repeating: "name ", count: 20), row.marks)], axis: Axis("%"))
        #expect(height < long.drawn(width: 736, id: "x").height)
    }

    /// An end that is not on the axis would be drawn as if it had been measured there.
    @Test func bothEndsOfAnIntervalAreOnALogarithmicAxis() {
        func ticks(_ mark: RowChart.Mark) -> [String] {
            texts(
                svg(
                    RowChart(
                        [.init("name", [(mark, "label")])],
                        axis: Axis("%", .logarithmic, including: [1, 100])), 736))
        }
        #expect(ticks(.interval(0.002...0.5, at: 0.03)).contains("0.001"))
        #expect(!ticks(.interval(0.2...0.5, at: 0.3)).contains("0.001"))
        // Nothing was seen: there is no lower end.
        #expect(ticks(.interval(0...0.5, at: nil)).contains("0.1"))
        #expect(!ticks(.interval(0.002...0.5, at: nil)).contains("0.001"))
    }

    @Test func countsHaveNoTicksBetween() {
        func ticks(_ axis: Axis) -> [String] {
            texts(svg(RowChart([.init("name", [(.bar([(0, 1)]), "one")])], axis: axis), 736))
        }
        #expect(ticks(Axis("%")).contains("0.5"))
        #expect(!ticks(Axis("sockets", isWhole: true)).contains("0.5"))
    }
}
