# SPDX-License-Identifier: Apache-2.0
"""The functions of libconnectx, called with Python's sockets."""
from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from typing import Optional, Tuple, Union

#: (host, port), or for IPv6 (host, port, flow label, scope), as in the module socket.
Address = Union[Tuple[str, int], Tuple[str, int, int], Tuple[str, int, int, int]]

#: TCP: the SYN goes with the first write.
RESUME_ON_READ_WRITE = 0x1
#: TCP: the data may go with the SYN (Fast Open), and arrive twice.
DATA_IDEMPOTENT = 0x2


class _Endpoints(ctypes.Structure):
    _fields_ = [
        ("interface", ctypes.c_uint),
        ("source", ctypes.c_char_p),
        ("source_length", ctypes.c_uint),
        ("destination", ctypes.c_char_p),
        ("destination_length", ctypes.c_uint),
    ]


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


def _load() -> ctypes.CDLL:
    """The library that CONNECTX_LIBRARY names, the one in the wheel, or the system's."""
    bundled = os.path.join(os.path.dirname(__file__), "libconnectx.so.1")
    path = os.environ.get("CONNECTX_LIBRARY")
    if not path:
        path = bundled if os.path.exists(bundled) else "libconnectx.so.1"
    return ctypes.CDLL(path, use_errno=True)


_library = _load()


def _name(address: Address) -> bytes:
    """A sockaddr_in or sockaddr_in6."""
    host: str
    port: int
    host, port, *rest = address
    flow, scope = (*rest, 0, 0)[:2]
    if not 0 <= port <= 65535:
        raise OverflowError("port must be 0-65535")
    if ":" not in host:
        return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"),
                           socket.inet_pton(socket.AF_INET, host))
    return struct.pack("=H2s4s16sI", socket.AF_INET6, port.to_bytes(2, "big"), flow.to_bytes(4, "big"),
                       socket.inet_pton(socket.AF_INET6, host), scope)


def _resolve(sock: socket.socket, address: Address) -> Address:
    """The same with a numeric host, as socket.connect does."""
    host, port, *rest = address
    if not host:
        host = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"
    try:
        _name((host, 0))
        return (host, port, *rest)  # type: ignore[return-value]
    except OSError:
        pass
    family = socket.AF_UNSPEC if sock.family == socket.AF_INET6 else sock.family
    found = socket.getaddrinfo(host, port, family, sock.type)[0][4]
    return (*found, *rest)[:4]


def _raise(number: int) -> None:
    raise OSError(number, os.strerror(number))


def _call(sock: socket.socket, destination: bytes, source: bytes, interface: int, flags: int,
          data: bytes) -> int:
    endpoints = _Endpoints(
        interface, source or None, len(source), destination, len(destination))
    vector = _Vector(data, len(data))
    sent = ctypes.c_size_t()
    if _library.connectx(
            sock.fileno(), ctypes.byref(endpoints), 0, flags,
            ctypes.byref(vector) if data else None, 1 if data else 0, ctypes.byref(sent), None):
        _raise(ctypes.get_errno())
    return sent.value


def _finish(sock: socket.socket) -> None:
    """Waits until a TCP connect is over, for as long as settimeout() said."""
    timeout = sock.gettimeout()
    until = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while not poll.poll(None if until is None else max(0, until - time.monotonic()) * 1000):
        if until is not None and time.monotonic() >= until:
            raise socket.timeout("timed out")
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        _raise(error)


def connectx(sock: socket.socket, dst: Address, src: Optional[Address] = None, *,
             interface: Union[int, str] = 0, flags: int = 0, data: bytes = b"") -> int:
    """Connects a TCP or UDP socket to `dst`, from a source that may be shared, and never by two
    sockets for one destination.

    What `src` leaves out (all of it; the host, as ""; the port, as 0) is chosen. `interface`, a
    name or an index, is bound to. With `data`, that is sent as the first; returned is how much of
    it was taken.

    settimeout() counts as it does for socket.connect(): without a timeout it waits, with one it
    raises TimeoutError, and a socket that does not block raises BlockingIOError while a TCP connect
    is under way. OSError with EADDRINUSE (UDP) or EADDRNOTAVAIL (TCP): another socket has what
    `src` names. EAGAIN (UDP), EADDRNOTAVAIL (TCP): no port is left for this destination.
    """
    number = socket.if_nametoindex(interface) if isinstance(interface, str) else interface
    destination = _name(_resolve(sock, dst))
    source = _name(_resolve(sock, src)) if src else b""
    try:
        return _call(sock, destination, source, number, flags, data)
    except (BlockingIOError, InterruptedError) as error:
        # EAGAIN is the other error of this class: there is no port.
        if error.errno == errno.EAGAIN or sock.gettimeout() == 0:
            raise
    _finish(sock)
    return sock.send(data) if data else 0


def disconnectx(sock: socket.socket) -> None:
    """Ends a UDP socket's association with its peer, or a TCP connection."""
    if _library.disconnectx(sock.fileno(), 0, 0):
        _raise(ctypes.get_errno())
