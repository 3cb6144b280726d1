# SPDX-License-Identifier: Apache-2.0
"""asyncio's endpoints and connections, to many servers that send back what comes: see ../languages.py.

With a fifth argument, the name of a package with an event loop of its own, on that loop.
"""
import asyncio
import importlib
import json
import sys

PORT, PATIENCE_SECONDS = 7777, 20


class Client(asyncio.DatagramProtocol, asyncio.Protocol):
    """One socket, of either transport."""

    def __init__(self, number):
        self.sent = b"socket %d" % number
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, _):
        if not self.answer.done():
            self.answer.set_result(data)

    def data_received(self, data):
        self.datagram_received(data, None)


async def open_one(loop, transport, number, servers, local):
    server = number % servers
    to = (f"127.0.{16 + server // 250}.{1 + server % 250}", PORT)
    from_ = None if local == "-" else (local, 0)
    if transport == "tcp":
        return await loop.create_connection(lambda: Client(number), *to, local_addr=from_)
    return await loop.create_datagram_endpoint(
        lambda: Client(number), remote_addr=to, local_addr=from_)


async def main(transport, count, servers, local):
    loop, opened, errors = asyncio.get_running_loop(), [], 0
    for number in range(count):
        try:
            opened.append(await open_one(loop, transport, number, servers, local))
        except OSError:
            errors += 1
    for socket, client in opened:
        (socket.write if transport == "tcp" else socket.sendto)(client.sent)
    clients = [client for _, client in opened]
    if clients:
        await asyncio.wait([client.answer for client in clients], timeout=PATIENCE_SECONDS)
    came = [client.answer.result() == client.sent for client in clients if client.answer.done()]
    print(json.dumps({"asked": count, "right": sum(came), "wrong": len(came) - sum(came),
                      "errors": errors}), flush=True)
    await asyncio.Event().wait()


if len(sys.argv) > 5:
    importlib.import_module(sys.argv[5]).install()
asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
