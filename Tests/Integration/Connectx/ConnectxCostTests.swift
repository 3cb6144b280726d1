// SPDX-License-Identifier: Apache-2.0
// What a connect does not ask the kernel for: listings, locks and trials that it can do without.

import Foundation
import Testing
import TupleguardLinux
import TupleguardTestSupport

@testable import TupleguardKernel

extension IntegrationTests.ConnectxFromC {
    /// Counts the listings that the process asks the kernel for, and the ports that it locks.
    private static let counter = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <linux/netlink.h>
        #include <linux/sock_diag.h>
        #include <sys/socket.h>
        int listings, locks;
        ssize_t send(int socket, const void *data, size_t size, int flags)
        {
            ssize_t (*next)(int, const void *, size_t, int);
            const struct nlmsghdr *header = data;
            *(void **)&next = dlsym(RTLD_NEXT, "send");
            if (size > sizeof(*header) && header->nlmsg_len == size &&
                header->nlmsg_type == SOCK_DIAG_BY_FAMILY && (header->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP)
                listings++;
            return next(socket, data, size, flags);
        }
        int setsockopt(int socket, int level, int option, const void *value, socklen_t size)
        {
            int (*next)(int, int, int, const void *, socklen_t);
            *(void **)&next = dlsym(RTLD_NEXT, "setsockopt");
            if (level == SOL_SOCKET && option == SO_REUSEADDR && size == sizeof(int))
                locks += !*(const int *)value;
            return next(socket, level, option, value, size);
        }
        """

    /// Runs a Python program that has `listings` and `locks` too; returns what it prints.
    private func counting(_ sandbox: Sandbox, _ program: String, in cgroup: Cgroup? = nil) throws
        -> String
    {
        try withTemporaryFolder { folder in
            try makeFile(folder + "/counter.c", Self.counter)
            let command = "exec clang -shared -fPIC '\(folder)/counter.c' -o '\(folder)/counter.so'"
            let build = try sandbox.command("/bin/sh", ["-c", command])
            #expect(build.status == 0, "\(build.errors)")
            let counters = """
                def count(name): return ctypes.c_int.in_dll(ctypes.CDLL(None), name)
                listings, locks = count('listings'), count('locks')

                """
            let outcome = try python(
                sandbox, counters + program, in: cgroup,
                environment: ["LD_PRELOAD": folder + "/counter.so"]
            ).wait()
            #expect(outcome.status == 0, "\(outcome.errors)")
            return outcome.output
        }
    }

    /// Destinations in turn, nearly all the ports of each: every one is found, and a destination's
    /// ports are listed once a second, not for each connection.
    @Test func destinationsInTurn() throws {
        try Sandbox.run { sandbox in
            let output = try counting(
                sandbox,
                """
                open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40099'); time.sleep(0.02)
                start = time.time()
                held = [udp() for _ in range(20 * 95)]
                said = {attempt(s, (f'127.0.0.{i % 20 + 1}', 9)) for i, s in enumerate(held)}
                print(said, len({(s.getsockname(), s.getpeername()) for s in held}))
                most = 20 * (2 + time.time() - start)
                print(0 < listings.value <= most or (listings.value, most))
                """)
            #expect(output == "{'ok'} 1900\nTrue\n")
        }
    }

    /// Where all ports have somebody who is connected there is nobody to wait for, nor are there
    /// sockets of the other family to ask about.
    @Test func allPortsAreTaken() throws {
        try Sandbox.run { sandbox in
            let output = try counting(
                sandbox,
                """
                open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40009'); time.sleep(0.02)
                to, held = ('127.0.0.1', 9), [udp() for _ in range(10)]
                print({attempt(s, to) for s in held})
                before = listings.value
                print(attempt(udp(), to), listings.value - before)
                """)
            #expect(output == "{'ok'}\nEAGAIN 1\n")
        }
    }

    /// The guard refuses what a lock would keep off. Whether there is one is tried once a second.
    @Test func underAGuardNothingIsLocked() throws {
        try Sandbox.run { sandbox in
            try sandbox.attach()
            let output = try counting(
                sandbox,
                """
                held = [udp() for _ in range(200)]
                print({attempt(s, ('127.0.0.1', 1 + i), ('127.0.0.1', 42000)) for i, s in enumerate(held)}, locks.value)
                """, in: sandbox.cgroup)
            #expect(output == "{'ok'} 0\n")
            #expect((1..<100).contains(try sandbox.counters()[.selfTests]))
        }
    }
}
