// SPDX-License-Identifier: Apache-2.0
// The paths of network namespaces, and the way in.

import Glibc
import Synchronization
import Testing
import TupleguardLinux
import TupleguardSockets

struct NetworkNamespaceTests {
    @Test("A namespace that is not there, and a file that is none: the body does not run")
    func noNamespace() {
        let ran = Atomic<Bool>(false)
        for (path, error) in [("/run/netns/that-is-not-there", ENOENT), ("/dev/null", EINVAL)] {
            #expect(throws: Errno(error)) {
                try NetworkNamespace.inside(path: path) { ran.store(true, ordering: .relaxed) }
            }
        }
        let hasRun = ran.load(ordering: .relaxed)
        #expect(!hasRun)
    }

    @Test("The namespaces begin with our own, and each is named once")
    func paths() throws {
        let paths = NetworkNamespace.find().namespaces.map(\.path)
        #expect(paths.first == "/proc/self/ns/net")
        #expect(Set(paths).count == paths.count)
        // Our own is that of our process id too, which must not be named again.
        #expect(!paths.contains("/proc/\(getpid())/ns/net"))
    }

    @Test("Only our own where no other is asked for, entered without privilege")
    func own() throws {
        let found = NetworkNamespace.find(.own)
        #expect(found.namespaces.map(\.name) == [NetworkNamespace.ownName])
        #expect(!found.hasHidden)
        let caller = UInt(pthread_self())
        #expect(try found.namespaces[0].inside { UInt(pthread_self()) } == caller)
    }
}
