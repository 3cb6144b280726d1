# SPDX-License-Identifier: Apache-2.0
"""What the suite prints: how far it is, what came of each program, and the table of the guide."""
import datetime
import os
import pathlib
import sys
import time

from suite.program import described

BEGIN = "<!-- What follows is the output of scripts/test-programs. -->"
END = "<!-- Here that output ends. -->"
COLUMNS = "| program | version | without a guard | guard, default policy | guard, `--discover all` | verdict |"


def duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Progress:
    """Time left, by what the programs are said to take and what those before took."""

    def __init__(self, programs):
        self.left = {program.name: program.seconds for program in programs}
        self.begun = time.monotonic()
        self.planned = sum(self.left.values())

    def show(self, program):
        """On a terminal a line that is written anew; else one for each program."""
        todo = sum(self.left.values())
        done = self.planned - todo
        pace = max(1, (time.monotonic() - self.begun) / done) if done else 1
        text = f"about {duration(todo * pace)} left: {program.name}"
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="", flush=True)
        else:
            print(text, flush=True)

    def finished(self, program):
        self.left.pop(program.name)
        if sys.stdout.isatty():
            print("\r\033[K", end="")

    @property
    def seconds(self):
        return time.monotonic() - self.begun


def plain(text):
    """Without the marks of Markdown."""
    return text.replace("**", "").replace("`", "")


def print_result(program, version, results, judgement):
    print(f"{program.name} ({program.title}, {version}): {plain(judgement.verdict)}")
    for way, result in results.items():
        print(f"  {way:<8} {plain(described(result, program.unit))} ({result.looks} looks)")
    for failure in judgement.failures:
        print(f"  FAILED   {failure}")
    sys.stdout.flush()


def row(program, version, results, judgement):
    cells = [program.title, version or "", *(described(one, program.unit) for one in results.values()),
             judgement.verdict]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(rows):
    return "\n".join([COLUMNS, "| " + " | ".join(["---"] * 6) + " |", *rows])


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")),
                os.uname().machine)


def conditions(seconds):
    """Where and when the table was taken."""
    return (f"Linux {os.uname().release}, {os.cpu_count()} processors ({processor()}), "
            f"{datetime.date.today():%d %B %Y}; the whole took {duration(seconds)}.")


def write_table(path, rows, titles, conditions_or_none):
    """Between the marks of a guide's article, in the order of the titles.

    Rows of programs that did not run now stay as they are there, and so does where and when the
    whole was taken, if this is only a part of it.
    """
    file = pathlib.Path(path)
    before, _, rest = file.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    lines = [line for line in old.splitlines() if line]
    known = {title_of(line): line for line in lines if line.startswith("| ")}
    known |= {title_of(line): line for line in rows}
    taken = conditions_or_none or next((line for line in lines if line.startswith("Linux")), "")
    ordered = [known[title] for title in titles if title in known]
    file.write_text(f"{before}{BEGIN}\n\n{taken}\n\n{table(ordered)}\n\n{END}{after}")


def title_of(line):
    return line.split(" | ")[0].removeprefix("| ")


def has_marks(path):
    file = pathlib.Path(path)
    return file.is_file() and BEGIN in file.read_text() and END in file.read_text()
