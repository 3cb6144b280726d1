# SPDX-License-Identifier: Apache-2.0
"""HTTP/3 clients, each on a port of its own: http3.py ADDRESS PORT COUNT FIRST.

Connects from the ports FIRST, FIRST + 1, ..., a few at a time; asks each for its number, prints JSON
(asked, right, wrong, errors), and then keeps all open until it is killed.
"""
import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration

AT_A_TIME, PATIENCE_SECONDS = 8, 60


class Client(QuicConnectionProtocol):
    """One connection, and what it has received."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.http, self.status, self.body = H3Connection(self._quic), None, b""
        self.answered = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        for part in self.http.handle_event(event):
            if isinstance(part, HeadersReceived):
                self.status = dict(part.headers).get(b":status")
            elif isinstance(part, DataReceived):
                self.body += part.data
            else:
                continue
            if part.stream_ended and not self.answered.done():
                self.answered.set_result(None)

    async def get(self, path):
        stream = self._quic.get_next_available_stream_id()
        headers = {b":method": b"GET", b":scheme": b"https", b":authority": b"a.test", b":path": path}
        self.http.send_headers(stream, list(headers.items()), end_stream=True)
        self.transmit()
        await asyncio.wait_for(self.answered, PATIENCE_SECONDS)
        return self.status, self.body


async def ask(address, port, local_port, number, free, kept):
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE,
                                      server_name="a.test", idle_timeout=600)
    connection = connect(address, port, configuration=configuration, create_protocol=Client,
                         local_port=local_port)
    async with free:
        client = await asyncio.wait_for(connection.__aenter__(), PATIENCE_SECONDS)
        kept.append(connection)
        return await client.get(b"/%d" % number) == (b"200", b"/%d" % number)


async def main(address, port, count, first):
    free, kept = asyncio.Semaphore(AT_A_TIME), []
    came = await asyncio.gather(*(ask(address, port, first + number, number, free, kept)
                                  for number in range(count)), return_exceptions=True)
    print(json.dumps({"asked": count, "right": came.count(True), "wrong": came.count(False),
                      "errors": sum(isinstance(one, Exception) for one in came)}), flush=True)
    for error in {repr(one) for one in came if isinstance(one, Exception)}:
        print(error, file=sys.stderr)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
