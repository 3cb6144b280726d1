# SPDX-License-Identifier: Apache-2.0
"""Balancers and proxies: a socket, or many, for each server behind them."""
from suite.program import Program, Result

ADDRESS, SOURCE = "127.0.0.1", "127.0.0.7"


class Dnsdist(Program):
    """Ten servers, 20 sockets to each: 200, in a namespace of fifty ports."""
    name, title = "dnsdist", "dnsdist, 10 servers of 20 sockets, 50 ports"
    packages = ("dnsdist",)
    ports = (40_000, 40_049)
    unit = "questions"
    complete = ("all",)
    short = True
    seconds = 25
    source = ""
    servers, sockets = 10, 20
    port, server_port = 5300, 5353

    def configuration(self):
        source = f', source="{self.source}"' if self.source else ""
        servers = "\n".join(
            f'newServer({{address="127.0.3.{n + 1}:{self.server_port}", sockets={self.sockets}{source}, '
            'useClientSubnet=false, healthCheckMode="up"})' for n in range(self.servers))
        return (f'setLocal("{ADDRESS}:{self.port}")\nsetSecurityPollSuffix("")\n'
                f'setACL({{"0.0.0.0/0"}})\nsetServerPolicy(roundrobin)\n{servers}\n')

    def run(self, place):
        place.peer("dns", "0.0.0.0", self.server_port, 20)
        config = place.write("dnsdist.conf", self.configuration())
        program = place.program("dnsdist", "-C", config, "--supervised", "--disable-syslog")
        place.wait_for_dns(ADDRESS, self.port, program)
        asked = place.ask(ADDRESS, self.port, 2000, 1000)
        log = place.read("program.log").lower()
        return Result(**asked, dropped=place.dropped(), refused=log.count("error connecting"))


class DnsdistWithSource(Dnsdist):
    """The same from an address: it binds to port 0 there, with SO_REUSEADDR."""
    name, title = "dnsdist-source", "dnsdist, the same with `source=`"
    source = SOURCE
    ports = (40_000, 40_299)


PROGRAMS = [Dnsdist(), DnsdistWithSource()]
