# SPDX-License-Identifier: Apache-2.0
"""The sockets of languages' own libraries: each opens many, to many servers, as a client of them all.

Their sources stand in sources/ and are compiled here. All take the same arguments, TRANSPORT COUNT
SERVERS LOCAL (or -), print JSON (asked, right, wrong, errors), and then keep the sockets open.
"""
import json
import pathlib
import subprocess

from suite import debian
from suite.program import Program, Result

SOURCES = pathlib.Path(__file__).with_name("sources")
BUILT = debian.CACHE / "built"
PORT, LOCAL = 7777, "127.0.0.7"
# Not what a developer's machine may have besides, in a home of its own.
PYTHON, GO, RUSTC, JAVAC, JAVA, NODE = (f"/usr/bin/{name}" for name in (
    "python3", "go", "rustc", "javac", "java", "node"))


def compile_with(*command):
    BUILT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*map(str, command)], cwd=BUILT, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise debian.NotToBeHad(f"{' '.join(map(str, command))}: {done.stdout}")


class Dial(Program):
    """A thousand sockets to as many servers, from fifty ports."""
    unit = "sockets"
    ports = (40_000, 40_049)
    transport, count, servers, local = "udp", 1000, 1000, "-"
    complete = ("all",)
    # Said after these.
    more = ()
    seconds = 15

    def command(self):
        raise NotImplementedError

    def run(self, place):
        echo = "echo" if self.transport == "udp" else "echo_tcp"
        place.peer(echo, "0.0.0.0", PORT)
        client = place.start(*self.under(place), *self.command(), self.transport, str(self.count),
                             str(self.servers), self.local, *self.more, log="client.log")

        def said():
            return [line for line in place.read("client.log").splitlines() if line.endswith("}")]

        outcome = place.wait("what came of the sockets", said, client)
        # They are all open still.
        place.wait_for_look(client)
        return Result(**json.loads(outcome[0]), dropped=place.dropped())

    def under(self, _):
        """What the client is started by."""
        return []


class Deferred:
    """The same with `exec --defer-bind`, but for the first way, which is without anything."""
    local = LOCAL
    complete = ("all",)
    answer = []

    def under(self, place):
        if place.way == "without":
            return []
        return [place.command, "exec", f"--defer-bind={self.transport}", *self.answer, "--no-guard",
                "--quiet", "--"]


class OverTCP(Deferred):
    """TCP, to three servers from a hundred ports; no guard is needed."""
    transport, count, servers = "tcp", 300, 3
    ports = (40_000, 40_099)
    complete = ("default", "all")


class Go(Dial):
    name, title = "go", "Go, `net.Dial`, 50 ports"
    packages = ("golang-go",)
    short = True

    def prepare(self, _):
        compile_with(GO, "build", "-o", "dial-go", SOURCES / "dial.go")

    def command(self):
        return [str(BUILT / "dial-go")]


class GoFromAddress(Deferred, Go):
    name, title = "go-local", "Go, `LocalAddr`, UDP, `--defer-bind=udp`, 50 ports"
    short = False


class GoOverTCP(OverTCP, Go):
    name, title = "go-tcp", "Go, `LocalAddr`, TCP, `--defer-bind`, 100 ports"
    short = False


class BindsFirst(Dial):
    """To port 0, before it connects: without --defer-bind each port serves one socket."""
    complete = ()


class Java(BindsFirst):
    name, title = "java", "Java, `DatagramChannel`, 50 ports"
    packages = ("openjdk-17-jdk-headless",)
    seconds = 20

    def prepare(self, _):
        compile_with(JAVAC, "-d", BUILT, SOURCES / "Dial.java")

    def command(self):
        return [JAVA, "-cp", str(BUILT), "Dial"]


class JavaDeferred(Deferred, Java):
    name, title = "java-deferred", "Java, `DatagramChannel`, `--defer-bind=udp`, 50 ports"
    local = "-"


class JavaOverTCP(OverTCP, Java):
    """It asks for its port after bind(), whatever for."""
    name, title = "java-tcp", "Java, `Socket.bind`, `--defer-bind --getsockname zero`, 100 ports"
    answer = ["--getsockname", "zero"]


class Node(BindsFirst):
    name, title = "node", "Node, `dgram`, 50 ports"
    packages = ("nodejs",)

    def command(self):
        return [NODE, str(SOURCES / "dial.js")]


class NodeDeferred(Deferred, Node):
    name, title = "node-deferred", "Node, `dgram`, `--defer-bind=udp`, 50 ports"
    local = "-"


class NodeOverTCP(OverTCP, Node):
    name, title = "node-tcp", "Node, `localAddress`, TCP, `--defer-bind`, 100 ports"


class Rust(BindsFirst):
    name, title = "rust", "Rust, `UdpSocket`, 50 ports"
    packages = ("rustc",)

    def prepare(self, _):
        compile_with(RUSTC, "-O", "-o", "dial-rust", SOURCES / "dial.rs")

    def command(self):
        return [str(BUILT / "dial-rust")]


class RustDeferred(Deferred, Rust):
    name, title = "rust-deferred", "Rust, `UdpSocket`, `--defer-bind=udp`, 50 ports"
    local = "-"


class Asyncio(Dial):
    """It takes the kernel's EAGAIN for a connect that goes on, and then sends in vain, all the time."""
    name, title = "asyncio", "Python asyncio, `remote_addr=`, 50 ports"
    packages = ("python3",)
    count, servers = 100, 100
    short = True
    seconds = 25

    def command(self):
        return [PYTHON, str(SOURCES / "dial.py")]


class AsyncioFromAddress(Deferred, Asyncio):
    name, title = "asyncio-local", "Python asyncio, `local_addr=`, `--defer-bind=udp`, 50 ports"
    short = False


class AsyncioOverTCP(OverTCP, Asyncio):
    name, title = "asyncio-tcp", "Python asyncio, `local_addr=`, TCP, `--defer-bind`, 100 ports"
    short = False


class Uvloop(Asyncio):
    name, title = "uvloop", "Python, uvloop, `remote_addr=`, 50 ports"
    packages = ("python3-uvloop",)
    more = ("uvloop",)
    short = False


class UvloopFromAddress(Deferred, Uvloop):
    name, title = "uvloop-local", "Python, uvloop, `local_addr=`, `--defer-bind=udp`, 50 ports"


class LookUp(Program):
    """glibc's resolver in threads: a socket for each name."""
    name, title = "getaddrinfo", "glibc's getaddrinfo, 16 threads"
    packages = ("libc6",)
    unit = "names"
    short = True
    seconds = 20
    servers, milliseconds = 1, 5
    threads, count = 16, 100

    def run(self, place):
        addresses = [f"127.0.3.{number + 1}" for number in range(self.servers)]
        place.peer("dns", "0.0.0.0", 53, self.milliseconds)
        settings = place.write("resolv.conf", "".join(
            f"nameserver {address}\n" for address in addresses)
            + "options rotate timeout:30 attempts:1\n")
        names = place.write("nsswitch.conf", "hosts: dns\n")
        mounts = ('mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/nsswitch.conf && '
                  'shift && exec "$@"')
        client = place.start("unshare", "--mount", "sh", "-c", mounts, settings, names, PYTHON, "-B",
                             str(SOURCES / "look_up.py"), str(self.threads), str(self.count))
        return Result(**json.loads(place.finish(client)), dropped=place.dropped())


class LookUpWithoutPorts(LookUp):
    """More at a time than there are ports, to three servers."""
    name, title = "getaddrinfo-ports", "glibc's getaddrinfo, 60 threads, 3 servers, 30 ports"
    # (Who finds a port is a matter of chance.)
    tolerance = 0.2
    ports = (40_000, 40_029)
    complete = ("all",)
    short = False
    servers, milliseconds = 3, 100
    threads, count = 60, 10


PROGRAMS = [Go(), GoFromAddress(), GoOverTCP(), Java(), JavaDeferred(), JavaOverTCP(), Node(),
            NodeDeferred(), NodeOverTCP(), Rust(), RustDeferred(), Asyncio(), AsyncioFromAddress(),
            AsyncioOverTCP(), Uvloop(), UvloopFromAddress(), LookUp(), LookUpWithoutPorts()]
