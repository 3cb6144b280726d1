// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CTupleguardLinux
import Glibc
import TupleguardLinux
import TupleguardSockets

/// `tupleguard top`
struct Top: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Watch connects, destinations that fill up, claims and conflicts, live.",
        discussion: """
            One screen, renewed every two seconds: connects claimed and refused a second, how full \
            the table is, the destinations with most local ports in use and when they will be full, \
            the programs with most claims, and the last conflicts with both sides. Needs no agent; \
            without root it shows the ports of its own network namespace. It takes at most a fifth \
            of a processor, and looks less often where there are very many sockets.

            Keys: q quits, s sorts, / filters, p pauses, h helps. Where standard output is no \
            terminal it prints one frame. NO_COLOR turns colours off.

            EXAMPLES
              tupleguard top
              tupleguard top --interval 10
              tupleguard top --namespace self
            """)

    @Option(help: ArgumentHelp("How often to look.", valueName: "seconds"))
    var interval = 2.0

    @Option(help: "all: every network namespace that may be entered; self: only this one.")
    var namespace = NetworkNamespace.Selection.all

    @OptionGroup(title: "Folders") var folders: FolderOptions

    /// Of a frame that goes into a pipe or a file.
    private static let printed = (columns: 120, rows: 60)

    func validate() throws {
        if !(0.1...3600).contains(interval) {
            throw ValidationError("--interval \(interval): choose between 0.1 and 3600")
        }
    }

    func run() throws {
        if isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1 {
            try watch()
        } else {
            try printFrame()
        }
    }

    private func look() throws -> TopSample {
        try TopSample(namespace, state: folders.guardState, agent: folders.agentFolder)
    }

    private func printFrame() throws {
        var history = TopHistory()
        history.add(try look())
        // The second look gives the rates.
        sleep(seconds: min(interval, 1))
        history.add(try look())
        let frame = TopFrame(
            history: history, view: TopView(), columns: Self.printed.columns,
            rows: Self.printed.rows, hasBlocks: Terminal.hasBlocks, isPrinted: true)
        for line in frame.lines(hasColour: false) { print(line) }
    }

    // MARK: - Live

    private func watch() throws {
        // Before there are other threads, which inherit it: signals are read, not delivered.
        let signals = try SignalDescriptor(
            [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH])
        let (namespace, folders) = (namespace, folders)
        let sampler = try TopSampler(every: interval) {
            try TopSample(namespace, state: folders.guardState, agent: folders.agentFolder)
        }
        let thread = try Thread { sampler.run() }
        let outcome = Result { try show(sampler, signals) }
        sampler.stop()
        thread.join()
        let signal = try outcome.get()
        // Whoever started us sees what ended us.
        if let signal { signals.die(of: signal) }
    }

    /// Until it is told to end.
    ///
    /// - Returns: the signal that ended it; nil for a key.
    private func show(
        _ sampler: TopSampler, _ signals: borrowing SignalDescriptor
    ) throws -> Int32? {
        let screen = try Screen()
        var history = TopHistory()
        var view = TopView()
        while true {
            let size = Terminal.size
            screen.show(
                TopFrame(
                    history: history, view: view, columns: size.columns, rows: size.rows,
                    hasBlocks: Terminal.hasBlocks
                ).lines(hasColour: Terminal.hasColour))
            var waiting = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: sampler.news.raw, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&waiting, nfds_t(waiting.count), -1) > 0 else { continue }
            if waiting[1].revents != 0, let signal = signals.next() {
                switch signal {
                case SIGWINCH: break
                case SIGTSTP:
                    screen.giveBack()
                    raise(SIGSTOP)
                    screen.take()
                default: return signal
                }
            }
            if waiting[2].revents != 0, let sample = try sampler.next(), !view.isPaused {
                history.add(sample)
            }
            if waiting[0].revents != 0 {
                // A terminal that has gone is always readable, and has nothing.
                guard let bytes = screen.typed(), !bytes.isEmpty else { return nil }
                for key in Key.decode(bytes) where view.press(key) == .quit { return nil }
            }
        }
    }
}
