#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients and servers that programs are tried with; each a process of its own.

dns ADDRESS PORT MILLISECONDS    answers each question that late, with an address made of its name
ask ADDRESS PORT COUNT RATE [S]  asks for as many names, checks each address, prints JSON; waits S seconds
echo ADDRESS PORT                sends back what comes, from the address that it came to
echo_tcp ADDRESS PORT            sends back what comes over connections
clients ADDRESS PORT COUNT       as many clients, each on an address of its own: send, compare, print JSON
twice                            two sockets on one tuple: prints what the second connect() said
"""
import asyncio
import contextlib
import errno
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
import zlib

SO_RCVBUFFORCE, IP_PKTINFO = 33, 8
# How long an answer is waited for before it is taken for lost.
LOST_SECONDS = 9


def server(address, port):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    one.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    one.bind((address, int(port)))
    one.setblocking(False)
    print("ready", flush=True)
    return one


def receive_all(one):
    """What has come: data, where it came from, and from which address the answer has to go."""
    while True:
        try:
            data, control, _, peer = one.recvmsg(4096, 256)
        except BlockingIOError:
            return
        except ConnectionError:
            continue
        local = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4x", 0, value[8:12]))
                 for _, kind, value in control if kind == IP_PKTINFO]
        yield data, local, peer


def send(one, data, local, peer):
    try:
        one.sendmsg([data], local, 0, peer)
    except OSError:
        pass  # Whoever asked is gone.


def echo(address, port):
    one = server(address, port)
    while True:
        select.select([one], [], [])
        for data, local, peer in receive_all(one):
            send(one, data, local, peer)


def echo_tcp(address, port):
    async def send_back(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    async def serve():
        one = await asyncio.start_server(send_back, address, int(port), backlog=4096)
        print("ready", flush=True)
        await one.serve_forever()

    asyncio.run(serve())


def end_of_name(message):
    place = 12
    while message[place]:
        place += message[place] + 1
    return place + 1


def address_of(name):
    """10.x.y.z, a number that comes of the name in wire format."""
    return b"\x0a" + struct.pack("!I", zlib.crc32(name.lower()))[1:]


def wire_name(name):
    return b"".join(bytes([len(label)]) + label for label in name.encode().split(b".")) + b"\0"


def address_text(name):
    """The address that `dns` has for a name."""
    return socket.inet_ntoa(address_of(wire_name(name)))


def answer(question):
    end = end_of_name(question)
    kind, asked = question[end:end + 2], question[12:end + 4]
    extended = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if question[10:12] != b"\0\0" else b""
    found = kind == b"\0\1"
    record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + address_of(question[12:end]) if found else b""
    counts = struct.pack("!HHHH", 1, found, 0, bool(extended))
    return question[:2] + b"\x84\x00" + counts + asked + record + extended


def dns(address, port, milliseconds):
    one, delay = server(address, port), float(milliseconds) / 1000
    waiting, number = [], 0
    while True:
        left = waiting[0][0] - time.monotonic() if waiting else None
        if left is None or left > 0:
            select.select([one], [], [], left)
        for data, local, peer in receive_all(one):
            number += 1
            heapq.heappush(waiting, (time.monotonic() + delay, number, data, local, peer))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, data, local, peer = heapq.heappop(waiting)
            send(one, answer(data), local, peer)


def question(number, name):
    wire = wire_name(name)
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + wire + b"\0\1\0\1", wire


def bound_to_a_low_port():
    """Of no ephemeral range, which may be used up by what is tried, and of no other peer's."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for port in range(600, 1024):
        try:
            one.bind(("127.9.0.1", port))
            return one
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    sys.exit("no port from 600 to 1023 is free")


def ask(address, port, count, rate, patience=LOST_SECONDS):
    one = bound_to_a_low_port()
    one.connect((address, int(port)))
    count, rate, results, expected, number = int(count), float(rate), {}, {}, 0
    begun = time.monotonic()
    end = begun + count / rate + float(patience)
    while len(results) < count and time.monotonic() < end:
        while number < count and time.monotonic() >= begun + number / rate:
            data, wire = question(number, f"check{os.getpid()}-{number}.example")
            expected[number] = address_of(wire)
            one.send(data)
            number += 1
        one.settimeout(0.01)
        try:
            data = one.recv(4096)
        except (TimeoutError, ConnectionError):
            continue
        which = struct.unpack_from("!H", data)[0]
        # An error is not a wrong answer: it is none.
        if data[3] & 15 == 0:
            results[which] = expected.get(which) in data
    right = sum(results.values())
    print(json.dumps({"asked": count, "right": right, "wrong": len(results) - right}))


def clients(address, port, count):
    """Not of the ephemeral range: each has an address of its own, and port 10,000 and some."""
    count, sockets = int(count), []
    poll = select.epoll()
    for index in range(count):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((f"127.9.{index // 200}.{1 + index % 200}", 10_000 + index % 200))
        one.connect((address, int(port)))
        poll.register(one, select.EPOLLIN)
        sockets.append(one)
    numbers = {one.fileno(): index for index, one in enumerate(sockets)}
    results, refused = {}, 0
    for index, one in enumerate(sockets):
        one.send(b"client %d" % index)
        if index % 25 == 24:
            time.sleep(0.01)
    end = time.monotonic() + LOST_SECONDS
    # Quiet for two seconds: nothing comes any more.
    while len(results) < count and time.monotonic() < end:
        events = poll.poll(2)
        if not events:
            break
        for number, _ in events:
            index = numbers[number]
            try:
                results[index] = sockets[index].recv(100) == b"client %d" % index
            except ConnectionError:
                refused += 1
    right = sum(results.values())
    print(json.dumps({"asked": count, "right": right, "wrong": len(results) - right,
                      "refused": refused}))


def twice():
    kept = []
    try:
        for _ in range(2):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.8.8.8", 9))
            one.connect(("127.8.8.9", 9))
            kept.append(one)
        print("connected")
    except OSError as error:
        print(errno.errorcode[error.errno])


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except KeyboardInterrupt:
        pass
