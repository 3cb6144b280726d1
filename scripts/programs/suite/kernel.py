# SPDX-License-Identifier: Apache-2.0
"""The kernel's own word on who shares a 4-tuple: SOCK_DIAG (what `ss` uses), asked from outside.

All connected UDP sockets of a network namespace are listed each tenth of a second. Two on one tuple
count when a second list, milliseconds later, shows the same two there: no list is made at one
instant, and a socket that took over the port of one that was closed meanwhile shares nothing.
"""
import collections
import ctypes
import os
import socket
import struct
import threading

CLONE_NEWNET = 0x40000000
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLMSG_DONE = 4, 20, 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
INET_DIAG_CGROUP_ID = 21
ESTABLISHED = 1
MESSAGE, HEADER = 72, 16
MAPPED = bytes(10) + b"\xff\xff"
LIBC = ctypes.CDLL(None, use_errno=True)

# A look: sockets of the program, how many of them share a tuple, and on how many addresses and ports.
Look = collections.namedtuple("Look", "sockets sharing ports")


def netlink_in(namespace):
    """A socket that asks about that namespace: a thread goes there, makes it, and ends."""
    made = []

    def make():
        with open(namespace) as file:
            if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def cgroup_of(attributes):
    place = 0
    while place + 4 <= len(attributes):
        size, kind = struct.unpack_from("=HH", attributes, place)
        if kind == INET_DIAG_CGROUP_ID:
            return struct.unpack_from("=Q", attributes, place + 4)[0]
        place += max(4, size + 3 & ~3)
    return None


class Census(threading.Thread):
    """Looks again and again until it is stopped; `worst` is the look with most that share."""

    def __init__(self, namespace, cgroup):
        super().__init__(daemon=True)
        self.netlink = netlink_in(namespace)
        self.netlink.settimeout(60)
        self.cgroup = os.stat(cgroup).st_ino
        self.stopping, self.looks = threading.Event(), 0
        self.worst = Look(0, 0, 0)
        self.failure = None
        self.start()

    def run(self):
        try:
            while not self.stopping.wait(0.1):
                look = self.look()
                self.looks += 1
                self.worst = max(self.worst, look, key=lambda one: (one.sharing, one.sockets))
        except OSError as error:
            self.failure = error

    def stop(self):
        self.stopping.set()
        self.join()
        self.netlink.close()
        if self.failure:
            raise self.failure
        return self.worst

    def look(self):
        """One look, and a second one where it shows a tuple that is shared."""
        first = self.holders()
        shared = {key: set(who) for key, who in first.items() if len(who) > 1}
        if shared:
            again = self.holders()
            shared = {key: who & set(again.get(key, ())) for key, who in shared.items()}
        ours = [(key, cookie) for key, who in first.items() for cookie, cgroup in who.items()
                if cgroup == self.cgroup]
        sharing = sum(len(shared.get(key, ())) > 1 and cookie in shared[key] for key, cookie in ours)
        return Look(len(ours), sharing, len({key[:18] for key, _ in ours}))

    def holders(self):
        """Each 4-tuple (and device), with the cookies of its sockets and their cgroups."""
        tuples = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for ports, source, destination, device, cookie, cgroup in self.dump(family):
                key = source + ports[:2] + destination + ports[2:] + device
                tuples.setdefault(key, {})[cookie] = cgroup
        return tuples

    def dump(self, family):
        request = struct.pack("=BBBxI48x", family, socket.IPPROTO_UDP, 0, 1 << ESTABLISHED)
        self.netlink.send(struct.pack("=IHHII", HEADER + len(request), SOCK_DIAG_BY_FAMILY,
                                      NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + request)
        while True:
            data, place = self.netlink.recv(1 << 18), 0
            while place + HEADER <= len(data):
                size, kind = struct.unpack_from("=IH", data, place)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", data, place + HEADER)[0], "SOCK_DIAG")
                yield self.parse(family, data[place + HEADER:place + size])
                place += size + 3 & ~3

    @staticmethod
    def parse(family, message):
        source, destination = message[8:24], message[24:40]
        if family == socket.AF_INET:
            source, destination = MAPPED + source[:4], MAPPED + destination[:4]
        return (message[4:8], source, destination, message[40:44], message[44:52],
                cgroup_of(message[MESSAGE:]))
