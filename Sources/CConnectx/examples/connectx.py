# SPDX-License-Identifier: Apache-2.0
"""connectx for Python: connect a socket from a source port that is shared safely.

    import connectx, socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connectx.connect(s, ("192.0.2.1", 53))

Run as a program it opens COUNT connections to a destination, and says how far it got:

    python3 connectx.py 127.0.0.1 9 100000
"""
import ctypes
import os
import socket
import sys

RESUME_ON_READ_WRITE = 0x1
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


_library = ctypes.CDLL(os.environ.get("CONNECTX_LIBRARY", "libconnectx.so.1"), use_errno=True)


def _name(address):
    """A sockaddr_in or sockaddr_in6 for (host, port[, flow, scope])."""
    host, port, *rest = address
    if ":" not in host:
        return (socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
                + socket.inet_pton(socket.AF_INET, host) + bytes(8))
    flow, scope = (*rest, 0, 0)[:2]
    return (socket.AF_INET6.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + flow.to_bytes(4, "big")
            + socket.inet_pton(socket.AF_INET6, host) + scope.to_bytes(4, sys.byteorder))


def connect(sock, destination, source=None, interface=0, flags=0, data=b""):
    """Connects, and returns how many bytes of `data` went with it; OSError when it fails."""
    to = _name(destination)
    origin = _name(source) if source else None
    endpoints = _Endpoints(interface, origin, len(origin) if origin else 0, to, len(to))
    vector = _Vector(data, len(data))
    sent = ctypes.c_size_t()
    result = _library.connectx(
        sock.fileno(), ctypes.byref(endpoints), 0, flags,
        ctypes.byref(vector) if data else None, 1 if data else 0, ctypes.byref(sent), None)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), destination)
    return sent.value


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = []
    try:
        for _ in range(count):
            held.append(socket.socket(family, socket.SOCK_DGRAM))
            connect(held[-1], (host, port))
    except OSError as error:
        held.pop()
        print(f"after {len(held)}: {error.strerror}")
    else:
        print(f"all {len(held)}")


if __name__ == "__main__":
    main()
