#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Connected UDP sockets for guest.py, 127.0.0.1:PORT -> 127.0.0.1:PEER (PORT + 1).
#
# hold: keeps one. connect: says what a connect got. pair: two on one tuple. load: tries a tuple that
# is taken until it is told to stop, and says how often.
import errno, signal, socket, sys, time


def connected(port, peer):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.connect(("127.0.0.1", peer))
    return s


def load(port, peer):
    attempts = refused = 0
    going = True

    def stop(*_):
        nonlocal going
        going = False
    signal.signal(signal.SIGTERM, stop)
    print("begun", flush=True)
    while going:
        attempts += 1
        try:
            connected(port, peer).close()
        except PermissionError:
            refused += 1
    print("%d attempts, %d refused" % (attempts, refused), flush=True)


what, port = sys.argv[1], int(sys.argv[2])
peer = int(sys.argv[3]) if len(sys.argv) > 3 else port + 1
if what == "load":
    load(port, peer)
elif what == "connect":
    try:
        with connected(port, peer):
            print("connected", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
else:
    sockets = [connected(port, peer) for _ in range(2 if what == "pair" else 1)]
    print("holding", flush=True)
    time.sleep(100_000)
