# SPDX-License-Identifier: Apache-2.0
"""What a program of the suite is, what came of it in each way, and what that means.

A program is a subclass of Program, with one method, run(place): it starts the program in the place,
loads it, compares what comes back with what is right, and returns a Result. Families of programs
stand in scripts/programs, a file each, with a list PROGRAMS.
"""
import dataclasses

from suite import debian
from suite.kernel import Look


@dataclasses.dataclass
class Result:
    """What came of one way."""
    # Questions put, requests sent, connections wanted.
    asked: int
    # Those with their right answer.
    right: int
    # Those with another's.
    wrong: int = 0
    # Of the right ones, those that took longer than any busy machine does; the slowest, in seconds.
    late: int = 0
    slowest: float | None = None
    # Of those that are missing, what the kernel threw away for want of a processor (Place.dropped).
    dropped: int = 0
    # Errors of connect() and the like that the program reported.
    errors: int = 0
    # Something to say besides, for the table.
    note: str = ""
    # Filled in by the suite: the kernel's word, and connects that the guard refused the program.
    look: Look = Look(0, 0, 0)
    looks: int = 0
    refused: int = 0

    @property
    def missing(self):
        """Without an answer, and for no fault of the machine's."""
        return max(0, self.asked - self.right - self.wrong - self.dropped)


class Program:
    """One program, or one way to use it. What is not overridden is as it stands here."""
    # What it is called by, and in the table.
    name = ""
    title = ""
    # Debian's packages; the first is the one whose version is told.
    packages = ()
    # Another release than this machine's, where those are newer: run in its folder.
    release = None
    # More packages for this machine, whatever the release: clients, say.
    tools = ()
    # The namespace's range of local ports; None: the kernel's, 32768 to 60999.
    ports = None
    # What `asked` counts.
    unit = "questions"
    # Ways in which all that is asked must be answered rightly.
    complete = ("default", "all")
    # The share of what is asked that may go missing in these on a machine with other work, besides
    # what the kernel says that it dropped.
    strays = 0.0
    # The share by which other ways may differ, where a program goes by chance.
    tolerance = 0.02
    # Whether its ways run one after the other: for loads that want the machine to themselves.
    alone = False
    # Whether it is one of --short.
    short = False
    # Seconds that its three ways take together.
    seconds = 30
    # What is known to be worse under the guard, for each way: said in the table, and no failure.
    known = {}

    def prepare(self, root):
        """What has to be there once, before it runs: compiled, generated."""

    def run(self, place):
        raise NotImplementedError

    def install(self):
        """Installs it and returns the folder that it is in, and its version."""
        root = debian.root_of(self.release) if self.release else "/"
        debian.install(self.packages, root)
        debian.install(self.tools)
        self.prepare(root)
        version = debian.version_of(self.packages[0], root) if self.packages else None
        return root, upstream(version or "")


def upstream(version):
    """Debian's version without Debian's part of it."""
    return version.rpartition("-")[0] or version


def count(number, things):
    return f"{number:,} {things}"


def described(result, unit):
    """A result in a line, the same for every program."""
    parts = []
    if result.right == result.asked:
        parts.append(f"all {count(result.asked, unit)} right")
    else:
        parts.append(f"{result.right:,} of {count(result.asked, unit)} right")
    if result.wrong:
        parts.append(f"{result.wrong:,} wrong")
    if result.late:
        parts.append(f"{result.late:,} late, the slowest {result.slowest:.2f} s")
    elif result.slowest is not None:
        parts.append(f"none late, the slowest {result.slowest:.2f} s")
    if result.errors:
        parts.append(f"{result.errors:,} errors")
    look = result.look
    if look.sharing:
        parts.append(f"**{look.sharing:,} of {count(look.sockets, 'sockets')} share a tuple**")
    elif look.sockets:
        ports = f" on {count(look.ports, 'ports' if look.ports > 1 else 'port')}" \
            if look.ports < look.sockets else ""
        parts.append(f"{count(look.sockets, 'sockets')}{ports}, none share")
    if result.refused:
        parts.append(f"{count(result.refused, 'connects')} refused")
    if result.dropped:
        parts.append(f"{result.dropped:,} dropped at full buffers")
    if result.note:
        parts.append(result.note)
    return "; ".join(parts)


@dataclasses.dataclass
class Judgement:
    """The verdict, in the table's words, and what must not be."""
    verdict: str
    failures: list


SHARE, WRONG, MISSING, LATE = "sockets share a tuple", "answers wrong", "answers missing", "answers late"


def troubles(result):
    """What may be helped, each with its size; a few late ones are any machine's."""
    late = result.late if result.late * 100 >= result.asked else 0
    return {SHARE: result.look.sharing, WRONG: result.wrong, MISSING: result.missing, LATE: late}


def broken_promises(program, way, result, without):
    """What must not be under a guard; nothing that a busy machine does by itself."""
    promised = [SHARE, WRONG, MISSING] if way in program.complete else [SHARE, WRONG]
    now = troubles(result)
    allowed = {MISSING: program.strays * result.asked}
    found = [f"{way}: {now[what]:,} {what}" for what in promised if now[what] > allowed.get(what, 0)]
    if not found and now[MISSING] > without.missing + program.tolerance * result.asked:
        found = [f"{way}: {now[MISSING]:,} {MISSING}, without a guard {without.missing:,}"]
    return found


def is_better(program, result, without):
    now, before = troubles(result), troubles(without)
    margin = {MISSING: program.tolerance * result.asked if result.missing else 0}
    return any(now[what] < before[what] - margin.get(what, 0) for what in now)


def judge(program, results):
    """Compares the ways. Nothing that depends on chance is a failure: of time, and of luck."""
    without = results["without"]
    broken = {way: broken_promises(program, way, result, without)
              for way, result in results.items() if way != "without"}
    worse = [way for way, found in broken.items() if found]
    if worse:
        reasons = "; ".join(f"{way}: {program.known.get(way, 'a defect')}" for way in worse)
        return Judgement(f"WORSE ({reasons})",
                         [text for way in worse if way not in program.known for text in broken[way]])
    better = [way for way in broken if is_better(program, results[way], without)]
    if better:
        return Judgement("helped" if "default" in better else "helped by `--discover all`", [])
    return Judgement("no help" if any(troubles(without).values()) else "not concerned", [])
