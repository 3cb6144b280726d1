// SPDX-License-Identifier: Apache-2.0
// Work on a thread of its own, the paths of namespaces, and the reading of small files.

import Glibc
import Synchronization
import Testing

@testable import TupleguardLinux
@testable import TupleguardSockets

struct NetworkNamespaceTests {
    @Test("The body runs once, on another thread, and has ended when the call returns")
    func ownThread() throws {
        let calls = Atomic<Int>(0)
        let caller = UInt(pthread_self())
        let thread = try NetworkNamespaces.onOwnThread { () -> UInt in
            calls.add(1, ordering: .relaxed)
            return UInt(pthread_self())
        }.get()
        #expect(thread != caller)
        let count = calls.load(ordering: .relaxed)
        #expect(count == 1)
    }

    @Test("Values and errors come back as they are")
    func results() throws {
        let text = NetworkNamespaces.onOwnThread {
            "a value that lives on the heap, not inline"
        }
        #expect(try text.get().hasSuffix("not inline"))
        let failure = NetworkNamespaces.onOwnThread { () throws -> Int in throw Errno(EDOM) }
        #expect(throws: Errno(EDOM)) { try failure.get() }
    }

    @Test("What the body captured is released with the call")
    func released() throws {
        final class Witness: Sendable {}
        weak var witness: Witness?
        do {
            let strong = Witness()
            witness = strong
            _ = NetworkNamespaces.onOwnThread { withExtendedLifetime(strong) { 1 } }
        }
        #expect(witness == nil)
    }

    @Test("One such thread can use another")
    func nested() throws {
        let depth = NetworkNamespaces.onOwnThread {
            try NetworkNamespaces.onOwnThread { UInt(pthread_self()) }.get() != UInt(pthread_self())
        }
        #expect(try depth.get())
    }

    @Test("errno is a thread's own")
    func ownErrno() throws {
        errno = EXDEV
        _ = NetworkNamespaces.onOwnThread { errno = EDOM }
        #expect(try NetworkNamespaces.onOwnThread { errno }.get() != EDOM)
    }

    @Test("A namespace that is not there, and a file that is none: the body does not run")
    func noNamespace() {
        let ran = Atomic<Bool>(false)
        for (path, error) in [("/run/netns/that-is-not-there", ENOENT), ("/dev/null", EINVAL)] {
            #expect(throws: Errno(error)) {
                try NetworkNamespaces.inside(path: path) { ran.store(true, ordering: .relaxed) }
            }
        }
        let hasRun = ran.load(ordering: .relaxed)
        #expect(!hasRun)
    }

    @Test("The namespaces begin with our own, and each is named once")
    func paths() throws {
        let paths = NetworkNamespaces.paths()
        #expect(paths.first == "/proc/self/ns/net")
        #expect(Set(paths).count == paths.count)
        // Our own is that of our process id too, which must not be named again.
        #expect(!paths.contains("/proc/\(getpid())/ns/net"))
    }
}

struct FileTests {
    /// Calls `body` with a fresh folder, and removes it and the files in it.
    private func withFolder(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/tupleguard-test-XXXXXX\0".utf8CString)
        let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer {
            for name in names(in: folder) { unlink("\(folder)/\(name)") }
            rmdir(folder)
        }
        try body(folder)
    }

    private func write(_ bytes: [UInt8], to path: String) throws {
        let raw = try Errno.check { open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600) }
        let file = OwnedDescriptor(taking: raw)
        #expect(try Errno.check { Glibc.write(file.raw, bytes, bytes.count) } == bytes.count)
    }

    @Test("The names of a folder, without itself and its parent")
    func listing() throws {
        try withFolder { folder in
            #expect(names(in: folder) == [])
            let expected = [
                "a", ".hidden", "with space", "ünïcode", String(repeating: "x", count: 255),
            ]
            for name in expected { try write([], to: "\(folder)/\(name)") }
            #expect(names(in: folder).sorted() == expected.sorted())
        }
    }

    @Test("A folder that cannot be read has no names")
    func noFolder() {
        #expect(names(in: "/proc/that-is-not-there") == [])
        #expect(names(in: "/dev/null") == [])
    }

    @Test("A file is read whole, whatever its size", arguments: [0, 1, 4095, 4096, 4097, 20_000])
    func reading(size: Int) throws {
        try withFolder { folder in
            let bytes = (0..<size).map { UInt8(ascii: "a") + UInt8($0 % 26) }
            try write(bytes, to: "\(folder)/file")
            #expect(contents(of: "\(folder)/file").map { Array($0.utf8) } == bytes)
        }
    }

    @Test("A file that cannot be read has no contents")
    func noFile() {
        #expect(contents(of: "/proc/that-is-not-there") == nil)
        #expect(contents(of: "/proc") == nil)
    }

    @Test(
        "A name is one word for a shell, whatever is in it",
        arguments: [
            "/system.slice/a@b:1.service", "", "/a b", "/a;touch x", "/$(x)`y`", "/it's", "''",
            "/ä*?", "-n",
        ])
    func words(name: String) throws {
        let shell = try #require(popen("printf %s. \(shellWord(name))", "r"))
        var output = [UInt8](repeating: 0, count: 100)
        let length = fread(&output, 1, output.count, shell)
        #expect(pclose(shell) == 0)
        #expect(String(decoding: output.prefix(length), as: UTF8.self) == name + ".")
        #expect(shellWord("/system.slice") == "/system.slice")
        #expect(!shellWord("/a\u{1B}").contains("\u{1B}"))
    }
}
