// SPDX-License-Identifier: Apache-2.0
// Network namespaces: finding them, and working inside one.

import CTupleguardLinux
import Glibc
import TupleguardSockets

/// Where the network namespaces of this host can be entered.
package enum NetworkNamespaces {
    /// A path for each network namespace that a process is in or that is mounted
    /// under /run/netns (ip-netns(8)), each namespace once.
    ///
    /// A namespace that is kept alive by nothing but an open socket has no path.
    package static func paths() -> [String] { find().paths }

    /// The same, and whether there are processes of which we may not know in which one they are.
    package static func find() -> (paths: [String], hasHidden: Bool) {
        var hasHidden = false
        var seen: Set<ino_t> = []
        var paths: [String] = []
        let candidates =
            ["/proc/self/ns/net"]
            + names(in: "/run/netns").map { "/run/netns/\($0)" }
            + names(in: "/proc").filter { $0.allSatisfy(\.isNumber) }.map { "/proc/\($0)/ns/net" }
        for path in candidates {
            var status = stat()
            if stat(path, &status) != 0 {
                hasHidden = hasHidden || errno == EACCES && isProcessThere(path)
            } else if seen.insert(status.st_ino).inserted {
                paths.append(path)
            }
        }
        return (paths, hasHidden)
    }

    /// EACCES also tells of a process that is gone by now (proc_ns_get_link).
    private static func isProcessThere(_ path: String) -> Bool {
        access(String(path.dropLast("/ns/net".utf8.count)), F_OK) == 0
    }

    /// Runs `body` on a thread of its own inside the network namespace at `path`.
    ///
    /// The thread ends with the call, so no other code ever runs in the wrong
    /// namespace. Needs CAP_SYS_ADMIN (setns(2)).
    package static func inside<Result: Sendable>(
        path: String, _ body: @escaping @Sendable () throws -> Result
    ) throws -> Result {
        let namespace = try OwnedDescriptor(path: path, flags: O_RDONLY)
        let raw = namespace.raw
        let result = onOwnThread { () throws -> Result in
            try Errno.check { linux_enter_network_namespace(raw) }
            return try body()
        }
        _ = namespace
        return try result.get()
    }

    /// Runs `body` on a thread that exists for this call only, and waits for it.
    package static func onOwnThread<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) -> Result<Value, any Error> {
        let work = Work(body)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(work)
        let failure = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<AnyWork>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        guard failure == 0 else {
            context.release()
            return .failure(Errno(failure))
        }
        pthread_join(thread, nil)
        return work.result!
    }
}

/// What a thread is given; the pointer that it gets cannot be generic.
private class AnyWork {
    func run() {}
}

private final class Work<Value: Sendable>: AnyWork {
    private let body: @Sendable () throws -> Value
    private(set) var result: Result<Value, any Error>?

    init(_ body: @escaping @Sendable () throws -> Value) {
        self.body = body
    }

    override func run() {
        result = Result(catching: body)
    }
}

/// What a terminal may be shown: control characters, also those of C1, as "?".
///
/// Processes name themselves, and whoever has a cgroup delegated names those below it.
package func printable(_ text: String) -> String {
    String(
        String.UnicodeScalarView(
            text.unicodeScalars.map { scalar in
                scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? "?" : scalar
            }))
}

/// The two numbers of net.ipv4.ip_local_port_range, "32768\t60999"; nil for anything else.
package func parsePortRange(_ text: String) -> ClosedRange<UInt16>? {
    let numbers = text.split(whereSeparator: \.isWhitespace).map { UInt16($0) }
    guard numbers.count == 2, let first = numbers[0], let last = numbers[1], first <= last
    else { return nil }
    return first...last
}

/// One word for a shell, in quotes where it needs them, so that a command with a name in it may be
/// copied from the screen. Whoever has a cgroup delegated names those below it.
package func shellWord(_ name: String) -> String {
    let plain = name.utf8.allSatisfy { byte in
        let isLetter = (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        return isLetter || isDigit || "/._-:@+,=".utf8.contains(byte)
    }
    if plain && !name.isEmpty { return name }
    return "'"
        + printable(name).split(separator: "'", omittingEmptySubsequences: false)
        .joined(separator: "'\\''") + "'"
}

/// The names in a folder, without "." and ".."; empty when it cannot be read.
package func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names
}

/// The whole of a small file, such as those of /proc; nil when it cannot be read.
package func contents(of path: String) -> String? {
    guard let file = try? OwnedDescriptor(path: path, flags: O_RDONLY) else { return nil }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        guard let count = try? Errno.check({ read(file.raw, &buffer, buffer.count) }) else {
            return nil
        }
        if count == 0 { break }
        bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
}
