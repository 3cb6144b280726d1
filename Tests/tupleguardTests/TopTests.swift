// SPDX-License-Identifier: Apache-2.0
// What keys do, and that a frame fits its terminal.

import Glibc
import Testing
import TupleguardKernel

@testable import tupleguard

@Suite struct TopTests {
    private func type(_ text: String, _ view: inout TopView) -> TopView.Outcome {
        var outcome = TopView.Outcome.goOn
        for key in Key.decode(Array(text.utf8)) { outcome = view.press(key) }
        return outcome
    }

    @Test func keysAreDecoded() {
        #expect(Key.decode(Array("a\r\u{7F}".utf8)) == [.character("a"), .enter, .backspace])
        #expect(Key.decode(Array("\u{1B}[A\u{1B}OB\u{1B}".utf8)) == [.up, .down, .escape])
        // Keys that mean nothing here leave nothing behind: F5, Ctrl-Right, a mouse.
        #expect(Key.decode(Array("\u{1B}[15~\u{1B}[1;5Cq".utf8)) == [.character("q")])
        #expect(Key.decode([0xC3, 0xA9, 0x00, 0x01]) == [])
        #expect(Key.decode([0x1B, UInt8(ascii: "[")]) == [])
    }

    @Test func qQuitsUnlessItIsTyped() {
        var view = TopView()
        #expect(type("/q", &view) == .goOn)
        #expect(view.filter == "q")
        #expect(type("\rq", &view) == .quit)
    }

    @Test func aFilterIsTypedCorrectedAndTakenBack() {
        var view = TopView()
        _ = type("/18\u{7F}92.0", &view)
        #expect(view.filter == "192.0")
        #expect(view.isTyping)
        #expect(view.admits("udp 192.0.2.1:53"))
        #expect(!view.admits("udp 198.51.100.1:53"))
        _ = type("\u{1B}", &view)
        #expect(view == TopView())
    }

    @Test func theOrderGoesRound() {
        var view = TopView()
        for order in [TopView.Order.filling, .destination, .used] {
            _ = type("s", &view)
            #expect(view.order == order)
        }
    }

    @Test func pausing() {
        var view = TopView()
        _ = type("p", &view)
        #expect(view.isPaused)
        _ = type(" ", &view)
        #expect(!view.isPaused)
    }

    @Test(arguments: [(80, 24), (40, 10), (200, 60), (1, 1), (20, 3)])
    func aFrameFitsItsTerminal(columns: Int, rows: Int) throws {
        var history = TopHistory()
        let state = GuardState(folder: "/sys/fs/bpf/tupleguard-test-none")
        history.add(
            try TopSample(.own, state: state, agent: .init(path: "/run/tupleguard-test-none")))
        for help in [false, true] {
            var view = TopView()
            view.showsHelp = help
            let lines = TopFrame(
                history: history, view: view, columns: columns, rows: rows, hasBlocks: true
            ).lines(hasColour: false)
            #expect(lines.count == rows)
            #expect(lines.allSatisfy { $0.count <= columns })
        }
    }

    @Test func aSparklineIsAsHighAsItsHighestValue() {
        func line(_ values: [Double], hasBlocks: Bool = false) -> String {
            TopFrame(
                history: TopHistory(), view: TopView(), columns: 80, rows: 24, hasBlocks: hasBlocks
            ).sparkline(values, width: 4)
        }
        #expect(line([]) == "    ")
        #expect(line([0, 0]) == "  __")
        #expect(line([9, 0, 7, 3.5, 7]) == "_@#@" || line([9, 0, 7, 3.5, 7]) == "_@+@")
        #expect(line([0, 7, 0, 7], hasBlocks: true) == "▁█▁█")
    }
}
