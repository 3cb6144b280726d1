// SPDX-License-Identifier: Apache-2.0
// The Python module, as its users see it: timeouts, names, asyncio.

import Testing
import TupleguardTestSupport

extension IntegrationTests.ConnectxFromC {
    private static let servers = """
        import asyncio, select, threading
        import connectx as module, connectx.aio as aio
        def deaf():
            listener = tcp(); listener.bind(('127.0.0.1', 0)); listener.listen(0)
            filler = tcp(); filler.connect(listener.getsockname())
            # It is full once the first waits to be accepted, which may be after its connect().
            assert select.select([listener], [], [], 60)[0]
            return listener, filler
        def name(call, *arguments, **options):
            try: return call(*arguments, **options)
            except OSError as error: return type(error).__name__, errno.errorcode.get(error.errno)
        listener = tcp(); listener.bind(('127.0.0.1', 50001)); listener.listen()
        echo = udp(); echo.bind(('127.0.0.1', 50001))
        def bounce():
            while True: echo.sendto(*echo.recvfrom(2000))
        threading.Thread(target=bounce, daemon=True).start()
        there = ('127.0.0.1', 50001)

        """

    /// settimeout() means what it means for connect().
    @Test func pythonTimeouts() throws {
        try expect(
            Self.servers + """
                waiting = deaf()
                for timeout in (0, 0.05):
                    s = tcp(); s.settimeout(timeout)
                    print(name(module.connectx, s, waiting[0].getsockname()))
                s = tcp(); s.settimeout(60); print(module.connectx(s, there, data=b'hello'), listener.accept()[0].recv(9))
                s = tcp(); s.settimeout(60); print(name(module.connectx, s, ('127.0.0.1', 50009)))
                s = udp(); s.settimeout(60); print(module.connectx(s, there, ('127.0.0.1', 0), data=b'hello'), s.recv(9))
                open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('41000 41001'); time.sleep(0.02)
                held = [udp() for _ in range(3)]
                for s in held: s.settimeout(60)
                print([name(module.connectx, s, ('127.0.0.1', 9)) for s in held])
                """,
            prints: """
                ('BlockingIOError', 'EINPROGRESS')
                ('TimeoutError', None)
                5 b'hello'
                ('ConnectionRefusedError', 'ECONNREFUSED')
                5 b'hello'
                [0, 0, ('BlockingIOError', 'EAGAIN')]
                """)
    }

    /// Hosts have names, interfaces too, and what is left out is chosen.
    @Test func pythonAddresses() throws {
        try expect(
            Self.servers + """
                def source(*arguments, kind=udp, **options): s = kind(); module.connectx(s, *arguments, **options); return s.getsockname()
                print(source(('localhost', 50001))[0], source(there, ('', 42000)), source(there, ('127.0.0.9', 0))[0])
                print(source(there, interface='lo')[0], source(there, interface=1, kind=tcp)[0])
                six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
                module.connectx(six, there); print(six.getpeername()[:2])
                module.disconnectx(six); print(name(six.getpeername))
                for wrong in (('127.0.0.1', 70000), ('127.0.0.1',), ('no such host', 1)):
                    try: module.connectx(udp(), wrong)
                    except (OverflowError, ValueError, OSError) as error: print(type(error).__name__)
                """,
            prints: """
                127.0.0.1 ('127.0.0.1', 42000) 127.0.0.9
                127.0.0.1 127.0.0.1
                ('::ffff:127.0.0.1', 50001)
                ('OSError', 'ENOTCONN')
                OverflowError
                ValueError
                gaierror
                """)
    }

    /// asyncio's ways to open a connection, also when they fail, or are given up.
    @Test func pythonAsyncio() throws {
        try expect(
            Self.servers + """
                class Keeper(asyncio.DatagramProtocol):
                    def __init__(self): self.said = asyncio.get_running_loop().create_future()
                    def datagram_received(self, data, _): self.said.set_result(data)
                async def fails(call):
                    try: await call
                    except OSError as error: return errno.errorcode[error.errno]
                async def main():
                    reader, writer = await aio.open_connection('localhost', 50001, family=socket.AF_INET, local_addr=('127.0.0.9', 42000))
                    peer, name = listener.accept(); peer.send(b'line\\n'); print(name, await reader.readline())
                    writer.close()
                    transport, protocol = await aio.create_connection(asyncio.Protocol, '127.0.0.1', 50001)
                    print(transport.get_extra_info('peername')); transport.close()
                    transport, keeper = await aio.create_datagram_endpoint(Keeper, there, local_addr=('', 42001))
                    transport.sendto(b'hello'); print(await keeper.said, transport.get_extra_info('sockname'))
                    print(await fails(aio.open_connection('127.0.0.1', 50009)))
                    print(await fails(aio.create_datagram_endpoint(Keeper, there, local_addr=('127.0.0.1', 42001))))
                    open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('41000 41000'); time.sleep(0.02)
                    other, _ = await aio.create_datagram_endpoint(Keeper, ('127.0.0.1', 9))
                    print(await fails(aio.create_datagram_endpoint(Keeper, ('127.0.0.1', 9))))
                    other.close(); transport.close()
                    open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('41000 41999'); time.sleep(0.02)
                    await asyncio.sleep(0.1)  # what was closed is gone
                    waiting = deaf(); before = len(os.listdir('/proc/self/fd'))
                    try: await asyncio.wait_for(aio.open_connection(*waiting[0].getsockname()), 0.05)
                    except asyncio.TimeoutError: print('given up', len(os.listdir('/proc/self/fd')) - before)
                asyncio.run(main())
                """,
            prints: """
                ('127.0.0.9', 42000) b'line\\n'
                ('127.0.0.1', 50001)
                b'hello' ('127.0.0.1', 42001)
                ECONNREFUSED
                EADDRINUSE
                EAGAIN
                given up 0
                """)
    }
}
