// SPDX-License-Identifier: Apache-2.0
// What libconnectx keeps between calls, in programs that close, fork, cancel and deny.

import Foundation
import Glibc
import Testing
import TupleguardTestSupport

extension IntegrationTests.ConnectxFromC {
    // MARK: - Descriptors

    /// A daemon closes every descriptor; those that it opens next get the library's numbers.
    @Test func descriptorsThatBecameOthers() throws {
        try expect(
            """
            import tempfile
            to, folder = ('127.0.0.1', 9), tempfile.mkdtemp()
            def files(): return [os.open(f'{folder}/{i}', os.O_RDWR | os.O_CREAT) for i in range(30)]
            def intact(mine): return all(
                os.readlink(f'/proc/self/fd/{f}') == f'{folder}/{i}' and os.fstat(f).st_size == 0
                for i, f in enumerate(mine))
            def three(): return [attempt(udp(), to) for _ in range(3)]
            attempt(udp(), to); attempt(udp(), to, ('127.0.0.1', 42000))
            child = os.fork()
            if child == 0:
                os.closerange(3, 1000); mine = files()
                os._exit(0 if three() == ['ok'] * 3 and intact(mine) else 1)
            print('child', os.waitpid(child, 0)[1])
            os.closerange(3, 1000); mine = files()
            print(three(), intact(mine))
            os.closerange(3, 1000)
            pairs = [s for _ in range(15) for s in socket.socketpair()]
            for s in pairs: s.settimeout(0)
            def received(s):
                try: return len(s.recv(10000))
                except BlockingIOError: return 0
            print(three(), sum(map(received, pairs)))
            os.closerange(3, 1000)
            mine = [udp() for _ in range(30)]
            print(three(), {s.getsockname() for s in mine})
            import shutil; shutil.rmtree(folder)
            """,
            prints: """
                child 0
                ['ok', 'ok', 'ok'] True
                ['ok', 'ok', 'ok'] 0
                ['ok', 'ok', 'ok'] {('0.0.0.0', 0)}
                """)
    }

    /// Parent and child have one process id, each 1 in its own PID namespace, and no netlink socket
    /// in common.
    @Test func processesWithOneProcessId() throws {
        try expect(
            """
            libc = ctypes.CDLL(None)
            to = ('127.0.0.1', 9)
            def tries(): return {attempt(udp(), to) for _ in range(1000)}
            assert libc.unshare(0x20000000) == 0
            first = os.fork()
            if first == 0:
                signal.alarm(30)
                attempt(udp(), to)
                assert libc.unshare(0x20000000) == 0
                child = os.fork()
                if child == 0: signal.alarm(30)
                said = os.getpid(), tries()
                if child == 0: os._exit(0 if said == (1, {'ok'}) else 1)
                print(os.waitpid(child, 0)[1], said, flush=True); os._exit(0)
            print(os.waitpid(first, 0)[1])
            """, prints: "0 (1, {'ok'})\n0")
    }

    /// Processes that fork, close and connect as they please: files keep what they are, and no
    /// process fails.
    @Test func aThousandProcesses() throws {
        try expect(
            """
            import mmap, random, tempfile
            to, folder, bad = ('127.0.0.1', 9), tempfile.mkdtemp(), 0
            # One process runs at a time: the others wait for their children.
            processes = mmap.mmap(-1, 4)
            def begin(): processes[:] = (int.from_bytes(processes[:], 'little') + 1).to_bytes(4, 'little')
            def go(seed, depth):
                dice, failures, mine = random.Random(seed), 0, []
                for step in range(6):
                    action = dice.choice(['close', 'open', 'connect', 'connect', 'fork'])
                    if action == 'close': os.closerange(3, 200); mine = []
                    if action == 'open':
                        for i in range(dice.randrange(12)):
                            path = f'{folder}/{os.getpid()}-{step}-{i}'
                            mine.append((os.open(path, os.O_RDWR | os.O_CREAT), path))
                    if action == 'connect': failures += attempt(udp(), to) != 'ok'
                    if action == 'fork' and depth < 3:
                        child = os.fork()
                        if child == 0: begin(); os._exit(go(dice.random(), depth + 1))
                        failures += os.waitpid(child, 0)[1] != 0
                    for f, path in mine:
                        try: failures += os.readlink(f'/proc/self/fd/{f}') != path or os.fstat(f).st_size != 0
                        except OSError: failures += 1
                return min(failures, 100)
            total = 0
            for seed in range(400):
                child = os.fork()
                if child == 0: begin(); attempt(udp(), to); os._exit(go(seed, 0))
                bad += os.waitpid(child, 0)[1] != 0
            print(bad, int.from_bytes(processes[:], 'little') > 1000)
            import shutil; shutil.rmtree(folder)
            """, prints: "0 True")
    }

    /// Whatever runs out, the port of a failed call is left as open to others as it can be.
    @Test func noDescriptorLeftForTheBarrier() throws {
        try expect(
            """
            import resource
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            results = set()
            for spare in range(9):
                s = udp()
                # Each in a process of its own, which has nothing kept yet.
                child = os.fork()
                if child == 0:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (s.fileno() + 1 + spare, limit[1]))
                    result = attempt(s, ('127.0.0.1', 9), ('127.0.0.1', 20000 + spare))
                    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
                    os._exit(('ok', 'EMFILE').index(result))
                status = os.waitpid(child, 0)[1]
                isBound = s.getsockname()[1] != 0
                results.add((status >> 8, isBound))
                assert not isBound or s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1, spare
                s.close()
            print(sorted(results))
            """, prints: "[(0, True), (1, False), (1, True)]")
    }

    // MARK: - Cancellation

    /// Threads that are cancelled while they connect leave nothing open.
    @Test func cancelledThreads() throws {
        let program = """
            #include <arpa/inet.h>
            #include <connectx.h>
            #include <dirent.h>
            #include <pthread.h>
            #include <stdio.h>
            #include <unistd.h>
            static struct sockaddr_in to = {.sin_family = AF_INET};
            static int descriptors(void) {
                DIR *folder = opendir("/proc/self/fd");
                int count = 0;
                while (readdir(folder)) count++;
                closedir(folder);
                return count;
            }
            static void close_socket(void *socket) { close(*(int *)socket); }
            static void *connect_again_and_again(void *unused) {
                sa_endpoints_t endpoints = {.sae_dstaddr = (struct sockaddr *)&to, .sae_dstaddrlen = sizeof(to)};
                int state;
                for (;;) {
                    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
                    int udp = socket(AF_INET, SOCK_DGRAM, 0);
                    pthread_cleanup_push(close_socket, &udp);
                    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
                    connectx(udp, &endpoints, 0, 0, NULL, 0, NULL, NULL);
                    pthread_testcancel();
                    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
                    pthread_cleanup_pop(1);
                }
                return unused;
            }
            int main(void) {
                int before = descriptors();
                inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
                to.sin_port = htons(9);
                for (int i = 0; i < 200; i++) {
                    pthread_t thread;
                    pthread_create(&thread, NULL, connect_again_and_again, NULL);
                    usleep(500 + i * 3);
                    pthread_cancel(thread);
                    pthread_join(thread, NULL);
                }
                puts(descriptors() - before <= 8 ? "bounded" : "leaked");
                return 0;
            }
            """
        try Sandbox.run { sandbox in
            let folder = try ConnectxLibrary.folder
            let source = NSTemporaryDirectory() + "tupleguard-test-cancel-\(getpid())"
            defer { for path in [source, source + ".c"] { unlink(path) } }
            try program.write(toFile: source + ".c", atomically: true, encoding: .utf8)
            let build = try sandbox.command(
                "/bin/sh",
                [
                    "-c",
                    "exec clang -pthread -I'\(folder)/include' '\(source).c' -L'\(folder)/lib' -lconnectx -o '\(source)'",
                ])
            #expect(build.status == 0, "\(build.errors)")
            let outcome = try sandbox.command(
                source, [], environment: ["LD_LIBRARY_PATH": folder + "/lib"])
            #expect(outcome.output == "bounded\n", "\(outcome.errors)")
        }
    }

    // MARK: - Numbers that nobody can guess

    /// Without getrandom(2) the ports are as hard to foretell as with it.
    @Test func getrandomIsDenied() throws {
        try expect(
            denial + """
                deny(318, 278)
                held = [udp() for _ in range(8)]
                said = [attempt(s, (f'127.0.0.{i + 1}', 9)) for i, s in enumerate(held)]
                print(set(said), len({s.getsockname()[1] for s in held}) > 4)
                """, prints: "{'ok'} True")
    }

    /// Where there are no such numbers at all, a port that could be foretold is not taken.
    @Test func nothingIsRandom() throws {
        try expect(
            denial + """
                import tempfile
                folder = tempfile.mkdtemp(); os.chroot(folder); os.chdir('/')
                deny(318, 278)
                s = udp()
                print(attempt(s, ('127.0.0.1', 9)), s.getsockname()[1], attempt(s, ('127.0.0.1', 9), ('127.0.0.1', 42000)))
                """, prints: "EPERM 0 ok")
    }

    // MARK: - Sources that are not this host's

    /// Transparent proxies connect from their clients' addresses.
    @Test func sourcesThatAreNotLocal() throws {
        try expect(
            """
            for c in ('link add va type veth peer name vb', 'addr add 10.0.0.1/24 dev va', 'link set va up',
                      'link set vb up', '-6 addr add 2001:db8::1/64 dev va nodad',
                      'route add default via 10.0.0.2', '-6 route add default via 2001:db8::2'):
                assert os.system('ip ' + c) == 0
            def named_and_not(family, level, option, source, to):
                said = []
                for port in (42000 + option, 0):
                    s = socket.socket(family, socket.SOCK_DGRAM); s.setsockopt(level, option, 1)
                    said += [attempt(s, to, (source, port)), s.getsockname()[0]]
                return said
            four, six = ('10.0.0.5', 9), ('2001:db8::5', 9)
            print(named_and_not(socket.AF_INET, 0, 19, '203.0.113.9', four))
            for option in (75, 78): print(named_and_not(socket.AF_INET6, 41, option, '2001:db8:1::9', six))
            print(attempt(udp(), four, ('203.0.113.9', 42001)), attempt(udp(), four, ('203.0.113.9', 0)))
            """,
            prints: """
                ['ok', '203.0.113.9', 'ok', '203.0.113.9']
                ['ok', '2001:db8:1::9', 'ok', '2001:db8:1::9']
                ['ok', '2001:db8:1::9', 'ok', '2001:db8:1::9']
                EADDRNOTAVAIL EADDRNOTAVAIL
                """)
    }

    // MARK: - Routes

    /// Whatever the routing policy looks at, the source is the one that connect() takes.
    @Test func theSourceIsConnects() throws {
        try expect(
            """
            def ip(c):
                assert os.system('ip ' + c) == 0, c
                time.sleep(0.02)  # so long an answer may be remembered
            for c in ('link add va type veth peer name vb', 'link set va up', 'link set vb up',
                      'link add vc type veth peer name vd', 'link set vc up', 'link set vd up',
                      'addr add 10.0.0.1/24 dev va', 'addr add 10.0.0.7/32 dev va', 'addr add 10.1.0.1/24 dev vc',
                      'route add default via 10.0.0.2', 'route add default via 10.0.0.2 src 10.0.0.7 table 100',
                      'route add 10.9.0.0/16 dev va metric 40', 'route add 10.9.0.0/16 dev vc metric 50',
                      '-6 addr add 2001:db8::1/64 dev va nodad', '-6 addr add 2001:db8::7/128 dev va nodad',
                      '-6 addr add 2001:db8:1::1/64 dev vc nodad',
                      '-6 route add default via 2001:db8::2 src 2001:db8::1',
                      '-6 route add default via 2001:db8::2 src 2001:db8::7 table 100',
                      '-6 route add 2001:db8:9::/48 dev va metric 40', '-6 route add 2001:db8:9::/48 dev vc metric 50'):
                ip(c)
            def sources(family, to, option=None, port=None, user=0):
                said, source = [], port and (('0.0.0.0', '::')[family == socket.AF_INET6], port)
                for call in (lambda s: s.connect(to), lambda s: connectx.connect(s, to, source)):
                    os.seteuid(user); s = socket.socket(family, socket.SOCK_DGRAM); os.seteuid(0)
                    if option: s.setsockopt(*option)
                    if source and not said: s.bind(source)
                    call(s); said.append(s.getsockname()[0])
                return said
            vc = struct.pack('!I', socket.if_nametoindex('vc'))
            four, six = ('10.200.0.1', 5353), ('2001:db8:200::1', 5353)
            differing, changed = [], 0
            def look(name, said, plain):
                global changed
                changed += said[0] != plain
                if said[0] != said[1]: differing.append((name, said))
            for rule, option, port in (
                    ('dport 5353', None, None), ('dport 5354', None, None), ('ipproto udp', None, None),
                    ('ipproto tcp', None, None), ('tos 0x10', (0, 1, 0x10), None), ('fwmark 7', (1, 36, 7), None),
                    ('sport 5000', None, 5000), ('uidrange 0-0', None, None), ('uidrange 1-9', None, None)):
                ip(f'rule add {rule} lookup 100 pref 50')
                look(rule, sources(socket.AF_INET, four, option, port), '10.0.0.1')
                ip('rule del pref 50')
                if 'tos' in rule: continue
                ip(f'-6 rule add {rule} lookup 100 pref 50')
                look('-6 ' + rule, sources(socket.AF_INET6, six, option, port), '2001:db8::1')
                ip('-6 rule del pref 50')
            # The socket's owner counts, whoever connects it.
            for flag, family, to, plain in ('', socket.AF_INET, four, '10.0.0.1'), ('-6 ', socket.AF_INET6, six, '2001:db8::1'):
                ip(flag + 'rule add uidrange 5-5 lookup 100 pref 50')
                look(flag + 'owner', sources(family, to, user=5), plain); ip(flag + 'rule del pref 50')
            # In turn, within the time for which an answer is remembered.
            for rule in 'dport 5354', 'tos 0x10', 'fwmark 7': ip(f'rule add {rule} lookup 100 pref 50')
            for _ in range(3):
                for option, port in ((None, 5353), (None, 5354), ((0, 1, 0x10), 5353), ((1, 36, 7), 5353)):
                    look('in turn', sources(socket.AF_INET, ('10.200.0.1', port), option), '10.0.0.1')
            look('IP_UNICAST_IF', sources(socket.AF_INET, ('10.9.0.1', 9), (0, 50, vc)), '10.0.0.1')
            ip('route add 10.8.0.0/16 via 10.0.0.2 metric 40'); ip('route add 10.8.0.0/16 dev vc metric 50')
            look('SO_DONTROUTE', sources(socket.AF_INET, ('10.8.0.1', 9), (1, 5, 1)), '10.0.0.1')
            direct = udp(); direct.setsockopt(1, 5, 1)
            assert attempt(direct, four) == 'ENETUNREACH' and direct.getsockname() == ('0.0.0.0', 0)
            # A temporary address beside the public one; the second is taken unless a socket says so.
            for name, value in ('dad_transmits', 0), ('accept_dad', 0), ('use_tempaddr', 1):
                open(f'/proc/sys/net/ipv6/conf/vc/{name}', 'w').write(str(value))
            ip('-6 addr add 2001:db8:3::1/64 dev vc mngtmpaddr nodad')
            until = time.time() + 60
            while not os.popen('ip -6 addr show dev vc temporary').read() and time.time() < until: time.sleep(0.01)
            look('IPV6_PREFER_SRC_TMP', sources(socket.AF_INET6, ('2001:db8:3::9', 9), (41, 72, 1)), '2001:db8:3::1')
            look('IPV6_PREFER_SRC_PUBLIC', sources(socket.AF_INET6, ('2001:db8:3::9', 9), (41, 72, 2)), '2001:db8:3::1')
            look('IPV6_UNICAST_IF', sources(socket.AF_INET6, ('2001:db8:9::1', 9), (41, 76, vc)), '2001:db8::7')
            print(differing, changed)
            """, prints: "[] 26")
    }

    /// An answer of the routing table is remembered: not past its time, nor when the address that
    /// it gave is gone. That is made so from within, for it to take no time.
    @Test func routesThatChange() throws {
        try expect(
            """
            def ip(c): assert os.system('ip ' + c) == 0, c
            for c in ('link add va type veth peer name vb', 'link set va up', 'link set vb up',
                      'link add vc type veth peer name vd', 'link set vc up', 'link set vd up',
                      'addr add 10.0.0.1/24 dev va', 'addr add 10.0.0.7/32 dev va', 'addr add 10.0.0.8/32 dev va',
                      'addr add 10.1.0.1/24 dev vc', 'route add default via 10.0.0.2 metric 10',
                      'route add default via 10.1.0.2 metric 20', 'route add 10.50.0.0/16 via 10.0.0.2 src 10.0.0.7'):
                ip(c)
            kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            def tell(type, body):
                kernel.send(struct.pack('=IHHII', 16 + len(body), type, 5, 1, 0) + body)
                assert struct.unpack('=i', kernel.recv(4096)[16:20]) == (0,)
            va = socket.if_nametoindex('va')
            def remove(address): tell(21, struct.pack('=BBBBIHH', 2, 32, 0, 0, va, 8, 2) + socket.inet_aton(address))
            def take_down(): tell(16, struct.pack('=BBHiII', 0, 0, 0, va, 0, 1))
            def source(to='10.50.0.1'):
                s = udp(); said = attempt(s, (to, 9)); return s.getsockname()[0] if said == 'ok' else said
            print(source()); remove('10.0.0.7'); print(source())
            ip('route add 10.50.0.0/16 via 10.0.0.2 src 10.0.0.8'); time.sleep(0.02)
            print(source()); ip('route del 10.50.0.0/16'); time.sleep(0.02); print(source())
            print(source(), end=' '); take_down(); time.sleep(0.02); print(source())
            print(source('10.1.0.9')); ip('link set vc down'); print(source('10.1.0.9'))
            """,
            prints: """
                10.0.0.7
                10.0.0.1
                10.0.0.8
                10.0.0.1
                10.0.0.1 10.1.0.1
                10.1.0.1
                ENETUNREACH
                """)
    }

    // MARK: - First data

    /// Without Fast Open the data follows the handshake; where it cannot be sent there is no
    /// connection.
    @Test func firstDataIsDeliveredOrAnError() throws {
        try expect(
            """
            listener = tcp(); listener.bind(('127.0.0.1', 50001)); listener.listen()
            for setting in '0', '1', '3':
                open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write(setting)
                s = tcp(); print(connectx.connect(s, ('127.0.0.1', 50001), flags=connectx.DATA_IDEMPOTENT, data=b'hello'), listener.accept()[0].recv(9))
            s = udp(); print(attempt(s, ('127.0.0.1', 9), data=bytes(70000)))
            try: s.getpeername()
            except OSError as error: print(errno.errorcode[error.errno])
            print(attempt(s, ('127.0.0.1', 9)), attempt(udp(), ('127.0.0.1', 9), flags=connectx.RESUME_ON_READ_WRITE) in ('EOPNOTSUPP', 'ENOTSUP'))
            """, prints: "5 b'hello'\n5 b'hello'\n5 b'hello'\nEMSGSIZE\nENOTCONN\nok True")
    }

    // MARK: - Ports of one's own

    /// While ports are plenty each socket gets one that nobody has; it is shared afterwards.
    @Test func aPortOfOnesOwn() throws {
        try expect(
            """
            to, held = ('127.0.0.1', 9), [udp() for _ in range(500)]
            held[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held[1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held[2].setsockopt(0, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            print({attempt(s, (f'127.0.0.{i % 250 + 1}', 9)) for i, s in enumerate(held)}, len({s.getsockname()[1] for s in held}))
            print({s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for s in held}, held[1].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
            taken = held[0].getsockname()
            print(attempt(udp(), ('127.0.0.1', 10), taken), attempt(udp(), to, taken))
            print(connectx._library.disconnectx(held[0].fileno(), 0, 0), held[0].getsockname()[1])
            """,
            prints: """
                {'ok'} 500
                {1} 1
                ok EADDRINUSE
                0 0
                """)
    }

    /// Half of the ports are left to those who cannot share.
    @Test func portsOfOnesOwnAreNotUsedUp() throws {
        try expect(
            """
            open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40099')
            held = [udp() for _ in range(80)]
            print({attempt(s, (f'127.0.0.{i + 1}', 9)) for i, s in enumerate(held)})
            first = {s.getsockname()[1] for s in held[:40]}
            print(len(first), len({s.getsockname()[1] for s in held}) < 80)
            """, prints: "{'ok'}\n40 True")
    }
}
