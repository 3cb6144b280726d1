// SPDX-License-Identifier: Apache-2.0
// The ports that may be chosen: ip_local_port_range without ip_local_reserved_ports.

import CTupleguardLinux
import TupleguardSockets

/// A set of ports, as 8 KB of bits.
struct PortSet: ~Copyable {
    private let words: UnsafeMutablePointer<UInt64>
    private static let count = 65_536 / 64

    init() {
        words = .allocate(capacity: Self.count)
        words.initialize(repeating: 0, count: Self.count)
    }

    deinit {
        words.deallocate()
    }

    mutating func removeAll() { words.update(repeating: 0, count: Self.count) }
    mutating func insert(_ port: UInt16) { words[Int(port >> 6)] |= 1 << UInt64(port & 63) }
    mutating func remove(_ port: UInt16) { words[Int(port >> 6)] &= ~(1 << UInt64(port & 63)) }
    func contains(_ port: UInt16) -> Bool { words[Int(port >> 6)] & 1 << UInt64(port & 63) != 0 }

    /// The first member at or after `start`, going round from the end to the beginning.
    func next(from start: UInt16) -> UInt16? {
        var index = Int(start >> 6)
        var word = words[index] & (UInt64.max << UInt64(start & 63))
        for _ in 0...Self.count {
            if word != 0 { return UInt16(index << 6 + word.trailingZeroBitCount) }
            index = (index + 1) % Self.count
            word = words[index]
        }
        return nil
    }
}

/// The ports that the kernel itself would choose from, in one network namespace (ip-sysctl), and
/// how many sockets want one.
///
/// They are those of the thread's namespace at first. Where /proc cannot be read the kernel's
/// defaults are assumed, and that ports are scarce.
struct PortSpace: ~Copyable {
    private let rangeFile = SettingFile("/proc/sys/net/ipv4/ip_local_port_range")
    private let reservedFile = SettingFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
    private let socketFile = SettingFile("/proc/thread-self/net/sockstat")
    private let socketFile6 = SettingFile("/proc/thread-self/net/sockstat6")
    private(set) var range: ClosedRange<UInt16> = 32_768...60_999
    /// UDP sockets that have a port.
    private var sockets: Int?
    private var reserved = PortSet()
    private(set) var hasReserved = false
    private var readAt: UInt64 = 0

    /// How old the answers may be, in nanoseconds: reading them costs some microseconds.
    private static let validity: UInt64 = 10_000_000

    private func isDue(_ now: UInt64) -> Bool { readAt == 0 || now &- readAt > Self.validity }

    /// Whether the descriptors are still ours, if they are about to be read.
    func isIntact(now: UInt64) -> Bool {
        !isDue(now)
            || rangeFile.isIntact && reservedFile.isIntact && socketFile.isIntact
                && socketFile6.isIntact
    }

    /// Looks again, if it was long ago.
    mutating func refresh(now: UInt64) {
        guard isDue(now) else { return }
        readAt = now
        readRange()
        readReserved()
        readSockets()
    }

    /// Whether half of these ports are nobody's, however the sockets are spread.
    func isRoomy(_ range: ClosedRange<UInt16>) -> Bool {
        guard let sockets else { return false }
        return sockets <= range.count / 2
    }

    /// The range for a socket with IP_LOCAL_PORT_RANGE: each of its ends counts where it lies in
    /// the namespace's range (inet_sk_get_local_port_range).
    func range(of socket: Socket) -> ClosedRange<UInt16> {
        let low = UInt16(truncatingIfNeeded: socket.portRange)
        let high = UInt16(truncatingIfNeeded: socket.portRange >> 16)
        let from = range.contains(low) ? low : range.lowerBound
        let to = range.contains(high) ? high : range.upperBound
        return from <= to ? from...to : range
    }

    /// One more has a port of its own, until the sockets are counted again.
    mutating func countOwnPort() { sockets? += 1 }

    func isReserved(_ port: UInt16) -> Bool { hasReserved && reserved.contains(port) }

    /// "32768\t60999\n"
    private mutating func readRange() {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = rangeFile.read(into: buffer)
            if count > 0 { takeRange(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
        }
    }

    mutating func takeRange(_ text: UnsafeRawBufferPointer) {
        var numbers = Numbers(text)
        guard let low = numbers.next()?.number, let high = numbers.next()?.number, low <= high
        else { return }
        range = low...high
    }

    /// "8080,9148-9150\n", or an empty line.
    private mutating func readReserved() {
        // Five digits and a separator for each port at most; more than a page is rare.
        var size = 4096
        while size <= 512 * 1024 {
            let isWhole = withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { buffer in
                let count = reservedFile.read(into: buffer)
                guard count >= 0, count < size else { return count < 0 }
                takeReserved(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                return true
            }
            if isWhole { return }
            size *= 8
        }
    }

    /// "…\nUDP: inuse 12 mem 203\n…", and "UDP6: inuse 3". Without IPv6 there is no second file.
    private mutating func readSockets() {
        let v6 = Self.count(in: socketFile6, after: "UDP6: inuse ")
        sockets = Self.count(in: socketFile, after: "UDP: inuse ").map { $0 + (v6 ?? 0) }
    }

    private static func count(in file: borrowing SettingFile, after words: StaticString) -> Int? {
        withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 1) { buffer in
            let length = max(0, file.read(into: buffer))
            return count(in: UnsafeRawBufferPointer(rebasing: buffer[..<length]), after: words)
        }
    }

    /// The first number behind `words`; nil where they are not there.
    static func count(in text: UnsafeRawBufferPointer, after words: StaticString) -> Int? {
        let sought = UnsafeRawBufferPointer(start: words.utf8Start, count: words.utf8CodeUnitCount)
        for start in 0..<max(0, text.count - sought.count)
        where memcmp(text.baseAddress! + start, sought.baseAddress!, sought.count) == 0 {
            var numbers = Numbers(
                UnsafeRawBufferPointer(rebasing: text[(start + sought.count)...]))
            return numbers.next().map { Int($0.number) }
        }
        return nil
    }

    mutating func takeReserved(_ text: UnsafeRawBufferPointer) {
        var numbers = Numbers(text)
        let wasEmpty = !hasReserved
        hasReserved = false
        if !wasEmpty { reserved.removeAll() }
        while let (first, separator) = numbers.next() {
            var last = first
            if separator == UInt8(ascii: "-"), let next = numbers.next() { last = next.number }
            hasReserved = true
            for port in first...max(first, last) { reserved.insert(port) }
        }
    }

    /// The numbers of a text, each with the byte that follows it.
    private struct Numbers {
        private let text: UnsafeRawBufferPointer
        private var index = 0

        init(_ text: UnsafeRawBufferPointer) {
            self.text = text
        }

        mutating func next() -> (number: UInt16, separator: UInt8)? {
            while index < text.count, !Self.isDigit(text[index]) { index += 1 }
            guard index < text.count else { return nil }
            var number: UInt32 = 0
            while index < text.count, Self.isDigit(text[index]) {
                number = min(number * 10 + UInt32(text[index] - UInt8(ascii: "0")), 65_535)
                index += 1
            }
            return (UInt16(number), index < text.count ? text[index] : 0)
        }

        private static func isDigit(_ byte: UInt8) -> Bool {
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
    }
}

/// A file below /proc/sys, open. What it says is the namespace's in which it was opened, whatever
/// the thread's is that reads.
struct SettingFile: ~Copyable {
    /// -1 where there is none.
    private let descriptor: Int32
    /// What was opened: the descriptor may be somebody else's by now (`NamespaceView`).
    private var identity = linux_file()

    init(_ path: StaticString) {
        descriptor = linux_open_for_reading(path.utf8Start)
        if descriptor >= 0 { linux_identify_file(descriptor, &identity) }
    }

    deinit {
        if descriptor >= 0 && isIntact { close(descriptor) }
    }

    var isIntact: Bool {
        if descriptor < 0 { return true }
        var found = linux_file()
        return linux_identify_file(descriptor, &found) == 0 && found.device == identity.device
            && found.inode == identity.inode
    }

    /// From the beginning; how many bytes, or -1.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        pread(descriptor, buffer.baseAddress, buffer.count, 0)
    }
}
