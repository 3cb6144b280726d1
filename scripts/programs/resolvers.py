# SPDX-License-Identifier: Apache-2.0
"""DNS resolvers that forward to one slow server: a socket for each question, half a second each."""
import collections
import json

from suite.program import Program, Result

ADDRESS, UPSTREAM = "127.0.0.1", "127.0.3.1"
PORT, UPSTREAM_PORT = 5301, 5354
# The server's delay, and what a resolver may add before an answer is late.
DELAY_SECONDS, LATE_SECONDS = 0.5, 0.7
# Asked at a slow pace beside dnsperf, to compare each address.
CHECKED, CHECKED_RATE = 200, 40


class Resolver(Program):
    """Started by command(), loaded by dnsperf with names that are asked for once."""
    tools = ("dnsperf",)
    unit = "questions"
    rate, load_seconds = 5000, 6
    clients, outstanding = 10, 4000
    strays = 0.001
    seconds = 40

    def command(self, place):
        """Writes its configuration and returns how to start it in the foreground."""
        raise NotImplementedError

    def run(self, place):
        place.peer("dns", UPSTREAM, UPSTREAM_PORT, DELAY_SECONDS * 1000)
        resolver = place.program(*self.command(place))
        place.wait_for_dns(ADDRESS, PORT, resolver)
        checker = place.peer("ask", ADDRESS, PORT, CHECKED, CHECKED_RATE)
        result = self.load(place)
        checked = json.loads(place.finish(checker))
        result.asked += checked["asked"]
        result.right += checked["right"]
        result.wrong += checked["wrong"]
        result.dropped = place.dropped()
        return result

    def load(self, place):
        """dnsperf's own words on each answer: its code, and how long it took."""
        names = self.rate * (self.load_seconds + 1)
        queries = place.write("queries", "".join(f"q{n}.test A\n" for n in range(names)))
        arguments = ["-v", "-s", ADDRESS, "-p", PORT, "-x", 20000, "-d", queries, "-n", 1, "-l",
                     self.load_seconds, "-c", self.clients, "-q", self.outstanding, "-Q", self.rate,
                     "-t", 9]
        output = place.finish(place.start("dnsperf", *map(str, arguments), guarded=False))
        lines = output.splitlines()
        answers = [line.split() for line in lines if line.startswith("> ")]
        sent = next(int(line.split()[2]) for line in lines if "Queries sent:" in line)
        times = [float(answer[-1]) for answer in answers if answer[1] == "NOERROR"]
        codes = collections.Counter(answer[1] for answer in answers if answer[1] != "NOERROR")
        return Result(asked=sent, right=len(times), slowest=max(times, default=0.0),
                      late=sum(seconds > LATE_SECONDS for seconds in times),
                      note=", ".join(f"{number:,} {code}" for code, number in codes.items()))


class Bind(Resolver):
    name, title = "bind", "BIND, forwarding"
    packages = ("bind9",)
    short = True
    load_seconds = 8
    seconds = 50

    def command(self, place):
        config = place.write("named.conf", f"""
options {{
    directory "{place.folder}";
    pid-file none;
    listen-on port {PORT} {{ {ADDRESS}; }};
    listen-on-v6 {{ none; }};
    recursion yes;
    allow-query {{ any; }};
    dnssec-validation no;
    forward only;
    forwarders port {UPSTREAM_PORT} {{ {UPSTREAM}; }};
    recursive-clients 20000;
    clients-per-query 0;
    qname-minimization off;
}};
controls {{ }};
""")
        return ["named", "-c", config, "-n", "1", "-g"]


PROGRAMS = [Bind()]
