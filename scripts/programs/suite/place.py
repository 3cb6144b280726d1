# SPDX-License-Identifier: Apache-2.0
"""Where a program runs: a network namespace, two cgroups, a folder, and a guard or none.

The program is in one cgroup, which is guarded or not; clients and servers that it is tried with are
in the other, which never is. All that is made has a name that begins with PREFIX and this process's
number, and goes when it is closed; what a killed run has left goes when the next one begins.
"""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

from suite.kernel import Census

PREFIX = "tupleguard-programs-"
BPF, RUN, NAMESPACES, TEMPORARY = "/sys/fs/bpf", "/run", "/run/netns", "/tmp"
PEERS = str(pathlib.Path(__file__).with_name("peers.py"))
# A way to run a program: the options of its guard, or no guard.
WAYS = {"without": None, "default": [], "all": ["--discover", "all"]}
# For what a busy machine may be late with.
PATIENCE_SECONDS = 120
# Set when the suite is interrupted: then nothing is waited for any more.
STOPPING = threading.Event()


# A profile of AppArmor is for the program as a service: it would keep it from the place's folder.
# (aa-exec(1) does this; without AppArmor it fails, and nothing is lost.)
EXECUTE = '{ echo "exec unconfined" >/proc/self/attr/exec; } 2>/dev/null; exec "$@"'


class Failed(Exception):
    """The program could not be tried: it ended, or did not do what it was waited for."""


def hierarchy():
    mounts = [line.split() for line in open("/proc/mounts")]
    return next((mount[1] for mount in mounts if mount[2] == "cgroup2"), None)


def wait_for(what, condition, seconds=PATIENCE_SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        if STOPPING.is_set():
            raise Failed(f"interrupted: {what}")
        time.sleep(0.05)
    raise Failed(f"not within {seconds} s: {what}")


def quietly(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Place:
    """One way to run one program. Made by entering it, gone when it is left."""

    def __init__(self, program, way, ports=None, root="/"):
        self.way, self.ports, self.root = way, ports, root
        self.command = program
        self.name = f"{PREFIX}{os.getpid()}-{way}"
        self.folder = f"{TEMPORARY}/{self.name}"
        self.state, self.run_folder = f"{BPF}/{self.name}", f"{RUN}/{self.name}"
        self.top = f"{hierarchy()}/{self.name}"
        self.cgroup, self.peers_cgroup = f"{self.top}/program", f"{self.top}/peers"
        self.processes, self.census, self.backlogs_before = [], None, backlogs()

    # MARK: - Made and removed

    def __enter__(self):
        try:
            for folder in (self.folder, self.top, self.cgroup, self.peers_cgroup):
                os.mkdir(folder)
            self.call("ip", "netns", "add", self.name)
            self.call("ip", "-n", self.name, "link", "set", "lo", "up")
            if self.ports:
                self.inside_call("sh", "-c", 'echo "$0" >/proc/sys/net/ipv4/ip_local_port_range',
                                 "%d %d" % self.ports)
            if WAYS[self.way] is not None:
                os.mkdir(self.run_folder)
                self.tupleguard("attach", self.cgroup, "--config", "/dev/null", *WAYS[self.way])
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.census:
            with contextlib.suppress(OSError):
                self.census.stop()
        remove(self.name, self.command)

    # MARK: - The guard

    def tupleguard(self, *arguments):
        return self.call(self.command, *arguments, "--state", self.state, "--run-folder",
                         self.run_folder)

    def refused(self):
        """Connects that the guard has refused."""
        if WAYS[self.way] is None:
            return 0
        counters = json.loads(self.tupleguard("stats", "--json"))["total"]
        return sum(number for name, number in counters.items() if name.startswith("refused_"))

    def observe(self, run):
        """What run(place) returns, with what was seen from outside meanwhile."""
        refused = self.refused()
        self.census = Census(f"{NAMESPACES}/{self.name}", self.cgroup)
        result = run(self)
        result.look, result.looks = self.census.stop(), self.census.looks
        result.refused = self.refused() - refused
        return result

    def check_guard(self):
        """Whether a second socket is refused a tuple here: only where there is a guard."""
        answer = self.finish(self.start(*self.python("twice"))).strip()
        wanted = "connected" if WAYS[self.way] is None else "EPERM"
        if answer != wanted:
            raise Failed(f"the second of two sockets on one tuple: {answer}, not {wanted}")

    # MARK: - Processes

    def start(self, *command, log=None, guarded=True, env=None, root=None):
        """Starts a command in the namespace, and in the program's cgroup or the others'.

        Its output goes to the file `log` of the folder, else it can be read. With `root`, it runs in
        that folder of another release, where the place's own folder has the same path.
        """
        output = open(f"{self.folder}/{log}", "ab") if log else subprocess.PIPE
        cgroup = self.cgroup if guarded else self.peers_cgroup
        # (`ip netns exec` would mount a /sys without cgroups.)
        enter = ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', cgroup, "nsenter",
                 f"--net={NAMESPACES}/{self.name}"]
        process = subprocess.Popen(
            [*enter, *self.changed_root(root or "/"), "sh", "-c", EXECUTE, "sh", *command],
            cwd=self.folder, env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT if log else None)
        if log:
            output.close()
        process.log, process.command = log, command
        self.processes.append(process)
        return process

    def changed_root(self, root):
        if root == "/":
            return []
        mounts = ('mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs '
                  'tmpfs "$0/tmp" && mkdir "$0$PWD" && mount --bind "$PWD" "$0$PWD" && '
                  'exec chroot "$0" sh -c \'cd "$0" && exec "$@"\' "$PWD" "$@"')
        return ["unshare", "--mount", "sh", "-c", mounts, root]

    def program(self, *command, log="program.log", env=None):
        """Starts the program that is tried; in the other release's folder where it comes from there."""
        return self.start(*command, log=log, env=env, root=self.root)

    def peer(self, *arguments):
        """A client or server of suite/peers.py, not guarded; a server is ready when this returns."""
        process = self.start(*self.python(*arguments), guarded=False)
        if arguments[0] in ("dns", "echo", "echo_tcp"):
            if process.stdout.readline() != b"ready\n":
                raise Failed(f"the server {' '.join(map(str, arguments))} does not start")
        return process

    @staticmethod
    def python(*arguments):
        return [sys.executable, "-B", PEERS, *map(str, arguments)]

    def ask(self, address, port, count, rate, *patience):
        """DNS questions, and what came of them: asked, right, wrong."""
        return json.loads(self.finish(self.peer("ask", address, port, count, rate, *patience)))

    def wait_for_dns(self, address, port, process):
        """Until what the process serves there answers."""
        self.wait(f"an answer of {address}:{port}",
                  lambda: self.ask(address, port, 1, 10, 2)["right"] == 1, process)

    def finish(self, process, seconds=PATIENCE_SECONDS):
        """Waits until it ends, with success; its output."""
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(process.command)} goes on for {seconds} s") from None
        if process.returncode != 0:
            raise Failed(f"{' '.join(process.command)} ended with {process.returncode}: "
                         f"{(output or b'').decode(errors='replace')}{self.read(process.log)[-1500:]}")
        return (output or b"").decode()

    def wait(self, what, condition, process=None):
        """Until the condition is true; for as long as the process lives."""
        def holds():
            result = condition()
            if not result and process and process.poll() is not None:
                raise Failed(f"{' '.join(process.command)} ended with {process.returncode}: "
                             f"{self.read(process.log)[-1500:]}")
            return result
        return wait_for(what, holds)

    def wait_for_look(self, process):
        """Until all that is open now has been counted."""
        looks = self.census.looks
        self.wait("a look at its sockets", lambda: self.census.looks > looks + 1, process)

    def inside_call(self, *command):
        """A short command in the namespace, neither guarded nor counted; its output."""
        return self.call("nsenter", f"--net={NAMESPACES}/{self.name}", *command)

    def call(self, *command):
        done = quietly(*command)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: {done.stdout.strip()}")
        return done.stdout

    # MARK: - Files and figures

    def write(self, name, text):
        path = f"{self.folder}/{name}"
        pathlib.Path(path).write_text(text)
        return path

    def read(self, name):
        """A file of the folder; nothing where there is none."""
        path = pathlib.Path(f"{self.folder}/{name}")
        return path.read_text(errors="replace") if name and path.is_file() else ""

    def dropped(self):
        """Datagrams that the kernel threw away while this place was, since a receiver or a processor
        did not keep up."""
        lines = self.inside_call("cat", "/proc/net/snmp").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Udp:"))
        return int(dict(zip(names, values))["RcvbufErrors"]) + backlogs() - self.backlogs_before


def backlogs():
    """What the machine's processors have thrown away, since they had too much to deliver."""
    lines = pathlib.Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


def remove(name, program):
    """Whatever there is of that name."""
    top = f"{hierarchy()}/{name}"
    if os.path.exists(top):
        pathlib.Path(top, "cgroup.kill").write_text("1")
    if os.path.exists(f"{BPF}/{name}"):
        done = quietly(program, "detach", "--all", "--state", f"{BPF}/{name}", "--run-folder",
                       f"{RUN}/{name}")
        if done.returncode != 0:
            # Half made, when its maker was killed: what is not pinned any more is gone.
            shutil.rmtree(f"{BPF}/{name}", ignore_errors=True)
    if os.path.exists(top):
        for below, _, _ in os.walk(top, topdown=False):
            remove_cgroup(below)
    if os.path.exists(f"{NAMESPACES}/{name}"):
        quietly("ip", "netns", "delete", name)
    for folder in (f"{BPF}/{name}", f"{RUN}/{name}", f"{TEMPORARY}/{name}"):
        shutil.rmtree(folder, ignore_errors=True)


def stop_all():
    """Ends what runs in this process's places; those who wait for it then find it ended."""
    STOPPING.set()
    for way in WAYS:
        path = pathlib.Path(f"{hierarchy()}/{PREFIX}{os.getpid()}-{way}/cgroup.kill")
        with contextlib.suppress(OSError):
            path.write_text("1")


def remove_cgroup(folder):
    """Once who was killed in there has gone."""
    for _ in range(20 * PATIENCE_SECONDS):
        with contextlib.suppress(OSError):
            return os.rmdir(folder)
        time.sleep(0.05)
    raise Failed(f"{folder} cannot be removed")


def remove_left_overs(program):
    """Of runs that were killed."""
    folders = [hierarchy(), BPF, RUN, NAMESPACES, TEMPORARY]
    names = {name for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)}
    for name in sorted(names):
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            remove(name, program)
