# SPDX-License-Identifier: Apache-2.0
"""Opens COUNT UDP connections to a destination, and says how far it got:

    python3 -m connectx 127.0.0.1 9 100000
"""
import socket
import sys

from . import connectx


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("usage: python3 -m connectx HOST PORT COUNT")
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = []
    try:
        for _ in range(count):
            held.append(socket.socket(family, socket.SOCK_DGRAM))
            connectx(held[-1], (host, port))
    except OSError as error:
        held.pop()
        print(f"after {len(held)}: {error.strerror}")
    else:
        print(f"all {len(held)}")


if __name__ == "__main__":
    main()
