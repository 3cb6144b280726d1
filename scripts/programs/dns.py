# SPDX-License-Identifier: Apache-2.0
"""DNS resolvers that forward to one slow server: a socket for each question, half a second each."""
import collections
import json

from suite.program import Program, Result

ADDRESS, UPSTREAM = "127.0.0.1", "127.0.3.1"
PORT, UPSTREAM_PORT = 5301, 5354
# The server's delay; an answer that takes twice as long has been asked for again.
DELAY_SECONDS, LATE_SECONDS = 0.5, 1.0
# Asked at a slow pace beside dnsperf, to compare each address.
CHECKED, CHECKED_RATE = 200, 40


class Resolver(Program):
    """Started by command(), loaded by dnsperf with names that are asked for once."""
    tools = ("dnsperf",)
    unit = "questions"
    alone = True
    # (unbound lets a client wait for a thousand answers at a time.)
    rate, load_seconds = 1500, 5
    clients, outstanding = 10, 900
    strays = 0.001
    seconds = 30

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
        queries = place.write("queries", "".join(f"q{n}.example A\n" for n in range(names)))
        arguments = ["-v", "-s", ADDRESS, "-p", PORT, "-x", 20000, "-d", queries, "-n", 1, "-l",
                     self.load_seconds, "-c", self.clients, "-q", self.outstanding, "-Q", self.rate,
                     "-t", 9]
        output = place.finish(place.start("dnsperf", *map(str, arguments), guarded=False))
        lines = output.splitlines()
        answers = [line.split() for line in lines if line.startswith("> ")]
        sent = next(int(line.split()[2]) for line in lines if "Queries sent:" in line)
        times = [float(answer[-1]) for answer in answers if answer[1] == "NOERROR"]
        codes = collections.Counter(answer[1] for answer in answers if answer[1] not in ("NOERROR", "T"))
        return Result(asked=sent, right=len(times), slowest=max(times, default=0.0),
                      late=sum(seconds > LATE_SECONDS for seconds in times),
                      note=", ".join(f"{number:,} {code}" for code, number in codes.items()))


class Bind(Resolver):
    name, title = "bind", "BIND, forwarding"
    packages = ("bind9",)
    short = True
    rate, load_seconds, outstanding = 5000, 5, 2500
    seconds = 50

    def command(self, place):
        config = place.write("named.conf", f"""
options {{
    directory "{place.folder}";
    pid-file none;
    lock-file none;
    session-keyfile none;
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


class Unbound(Resolver):
    name, title = "unbound", "unbound, forwarding"
    packages = ("unbound",)

    def command(self, place):
        # (It would ask again after 376 ms, before it knows the server.)
        config = place.write("unbound.conf", f"""
server:
    directory: "{place.folder}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    interface: {ADDRESS}@{PORT}
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    module-config: "iterator"
    num-threads: 1
    outgoing-range: 8192
    num-queries-per-thread: 4096
    infra-cache-min-rtt: 2000
    qname-minimisation: no
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {UPSTREAM}@{UPSTREAM_PORT}
""")
        return ["unbound", "-d", "-p", "-c", config]


class KnotResolver(Resolver):
    name, title = "knot-resolver", "Knot Resolver, forwarding"
    packages = ("knot-resolver",)

    def command(self, place):
        config = place.write("kresd.conf", f"""
net.listen('{ADDRESS}', {PORT}, {{ kind = 'dns' }})
cache.open(20 * MB, 'lmdb://{place.folder}/cache')
trust_anchors.remove('.')
policy.add(policy.all(policy.STUB('{UPSTREAM}@{UPSTREAM_PORT}')))
""")
        return ["kresd", "-n", "-c", config, place.folder]


class PdnsRecursor(Resolver):
    name, title = "pdns-recursor", "PowerDNS Recursor, forwarding"
    packages = ("pdns-recursor",)

    def command(self, place):
        settings = {
            "config-dir": place.folder, "socket-dir": place.folder, "daemon": "no", "write-pid": "no",
            "disable-syslog": "yes", "local-address": ADDRESS, "local-port": PORT, "setuid": "",
            "forward-zones-recurse": f".={UPSTREAM}:{UPSTREAM_PORT}", "dont-query": "", "dnssec": "off",
            "threads": 1, "max-mthreads": 8192, "quiet": "yes", "security-poll-suffix": "",
        }
        return ["pdns_recursor", *(f"--{name}={value}" for name, value in settings.items())]


class Dnsmasq(Resolver):
    name, title = "dnsmasq", "dnsmasq"
    packages = ("dnsmasq",)

    def command(self, place):
        return ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                f"--listen-address={ADDRESS}", "--bind-interfaces", f"--port={PORT}", "--user=root",
                f"--server={UPSTREAM}#{UPSTREAM_PORT}", "--cache-size=0", "--dns-forward-max=8000",
                f"--pid-file={place.folder}/pid", "--log-facility=-"]


PROGRAMS = [Bind(), Unbound(), KnotResolver(), PdnsRecursor(), Dnsmasq()]
