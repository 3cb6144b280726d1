# SPDX-License-Identifier: Apache-2.0
"""asyncio's ways to open a connection, from source ports that are shared safely.

    import connectx.aio

    reader, writer = await connectx.aio.open_connection("192.0.2.1", 443, ssl=True)
    transport, protocol = await connectx.aio.create_datagram_endpoint(Protocol, ("192.0.2.1", 53))

They take what asyncio's take, as far as it is about opening one; what else they are given goes on
to asyncio. A name's addresses are tried in turn.
"""
from __future__ import annotations

import asyncio
import socket
from typing import Any, Callable, List, Optional, Tuple

from ._call import Address, connectx

__all__ = ["create_connection", "create_datagram_endpoint", "open_connection"]


async def _connected(sock: socket.socket, dst: Address, src: Optional[Address]) -> None:
    """A socket that does not block, connected without keeping the loop from going on."""
    loop = asyncio.get_running_loop()
    try:
        connectx(sock, dst, src)
        return
    except BlockingIOError as error:
        # EAGAIN, the other error of this class: there is no port.
        if sock.type == socket.SOCK_DGRAM:
            raise OSError(error.errno, error.strerror) from None
    except InterruptedError:
        pass
    ready = loop.create_future()

    def be_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(sock, be_ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, f"Connect call failed {dst}")


async def _open(type: socket.SocketKind, host: str, port: int, src: Optional[Address],
                family: int) -> socket.socket:
    """A connected socket to the first of the host's addresses that can be had."""
    loop = asyncio.get_running_loop()
    errors: List[OSError] = []
    for found, kind, protocol, _, name in await loop.getaddrinfo(host, port, family=family, type=type):
        sock = socket.socket(found, kind, protocol)
        try:
            sock.setblocking(False)
            await _connected(sock, name, src)  # type: ignore[arg-type]
            return sock
        except OSError as error:
            sock.close()
            errors.append(error)
        except BaseException:
            sock.close()
            raise
    if len(errors) == 1:
        raise errors[0]
    raise OSError(errors[-1].errno if errors else None,
                  "Multiple exceptions: " + ", ".join(map(str, errors)))


def _server_name(arguments: dict[str, Any], host: str) -> None:
    if arguments.get("ssl"):
        arguments.setdefault("server_hostname", host)


async def create_connection(
        protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *,
        local_addr: Optional[Address] = None, family: int = 0, **arguments: Any
) -> Tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    """loop.create_connection(), from `local_addr` or a source that is chosen."""
    _server_name(arguments, host)
    sock = await _open(socket.SOCK_STREAM, host, port, local_addr, family)
    loop = asyncio.get_running_loop()
    return await loop.create_connection(protocol_factory, sock=sock, **arguments)


async def open_connection(
        host: str, port: int, *, local_addr: Optional[Address] = None, family: int = 0,
        **arguments: Any
) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """asyncio.open_connection(), from `local_addr` or a source that is chosen."""
    _server_name(arguments, host)
    sock = await _open(socket.SOCK_STREAM, host, port, local_addr, family)
    return await asyncio.open_connection(sock=sock, **arguments)


async def create_datagram_endpoint(
        protocol_factory: Callable[[], asyncio.DatagramProtocol], remote_addr: Tuple[str, int], *,
        local_addr: Optional[Address] = None, family: int = 0
) -> Tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    """loop.create_datagram_endpoint() with a peer, from `local_addr` or a source that is chosen.

    A `local_addr` with a port that others are just connecting from may keep the loop waiting for up
    to 12 ms.
    """
    host, port = remote_addr[:2]
    sock = await _open(socket.SOCK_DGRAM, host, port, local_addr, family)
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(protocol_factory, sock=sock)
