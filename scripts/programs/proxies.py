# SPDX-License-Identifier: Apache-2.0
"""Balancers and proxies: a socket, or many, for each server behind them."""
import json
import socket
import time

from suite.peers import address_text
from suite.program import Program, Result

ADDRESS, SOURCE = "127.0.0.1", "127.0.0.7"


class Dnsdist(Program):
    """Ten servers, 20 sockets to each: 200, in a namespace of fifty ports."""
    name, title = "dnsdist", "dnsdist, 10 servers of 20 sockets, 50 ports"
    packages = ("dnsdist",)
    ports = (40_000, 40_049)
    unit = "questions"
    complete = ("all",)
    strays = 0.01
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
        # (It waits two seconds for a server.)
        asked = place.ask(ADDRESS, self.port, 2000, 1000, 4)
        log = place.read("program.log").lower()
        return Result(**asked, dropped=place.dropped(), errors=log.count("error connecting"))


class DnsdistWithSource(Dnsdist):
    """The same from an address: it binds to port 0 there, with SO_REUSEADDR."""
    name, title = "dnsdist-source", "dnsdist with `source=`, 300 ports"
    source = SOURCE
    complete = ("default", "all")
    short = True
    ports = (40_000, 40_299)


class DnsdistNextRelease(DnsdistWithSource):
    name, title = "dnsdist-next", "dnsdist 1.9 with `source=`, 300 ports"
    release = "trixie"
    short = False


class NginxStream(Program):
    """A socket for each client, and ten servers behind it."""
    name, title = "nginx", "nginx, UDP to 10 servers, 50 ports"
    packages = ("nginx", "libnginx-mod-stream")
    unit = "clients"
    ports = (40_000, 40_049)
    complete = ("all",)
    seconds = 30
    bind = ""
    clients, port, server_port = 400, 5000, 7777

    def configuration(self, folder):
        servers = " ".join(f"server 127.0.1.{n + 1}:{self.server_port};" for n in range(10))
        return f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 8000; }}
stream {{
  upstream servers {{ {servers} }}
  server {{ listen {ADDRESS}:{self.port} udp; proxy_pass servers; proxy_timeout 60s; {self.bind} }}
}}
"""

    def run(self, place):
        place.peer("echo", "0.0.0.0", self.server_port)
        config = place.write("nginx.conf", self.configuration(place.folder))
        nginx = place.program("nginx", "-c", config, "-p", place.folder, "-e", "error.log")
        place.wait("nginx has started its worker",
                   lambda: "start worker process " in place.read("error.log"), nginx)
        asked = json.loads(place.finish(place.peer("clients", ADDRESS, self.port, self.clients)))
        place.wait_for_look(nginx)
        log = place.read("error.log")
        return Result(**asked, dropped=place.dropped(), errors=log.count(") failed ("))


class NginxStreamBound(NginxStream):
    name, title = "nginx-bind", "nginx with `proxy_bind`, 50 ports"
    bind = f"proxy_bind {SOURCE};"


class HaproxyResolvers(Program):
    """Ten name servers, and as many servers as there are names: a socket for each name server."""
    name, title = "haproxy-resolvers", "HAProxy's resolvers, 10 name servers"
    packages = ("haproxy",)
    unit = "names"
    short = True
    seconds = 15
    names, server_port = 100, 5355

    def configuration(self, folder):
        nameservers = "\n".join(f"  nameserver n{n} 127.0.3.{n + 1}:{self.server_port}" for n in range(10))
        servers = "\n".join(f"  server s{n} h{n}.example:80 resolvers all init-addr none resolve-prefer ipv4"
                            for n in range(self.names))
        return f"""
global
  stats socket {folder}/control level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
resolvers all
{nameservers}
  hold valid 1s
  timeout resolve 1s
frontend front
  bind {ADDRESS}:8443
  default_backend back
backend back
{servers}
"""

    def run(self, place):
        place.peer("dns", "0.0.0.0", self.server_port, 20)
        config = place.write("haproxy.cfg", self.configuration(place.folder))
        haproxy = place.program("haproxy", "-f", config, "-db")
        expected = {f"s{n}": address_text(f"h{n}.example") for n in range(self.names)}
        found = {}

        def all_found():
            found.update(self.addresses(f"{place.folder}/control"))
            return found and "" not in found.values()

        place.wait("HAProxy resolves all names", all_found, haproxy)
        # It asks again each second.
        for _ in range(30):
            time.sleep(0.1)
            all_found()
        right = sum(found.get(server) == address for server, address in expected.items())
        return Result(asked=len(expected), right=right, wrong=len(expected) - right,
                      dropped=place.dropped())

    @staticmethod
    def addresses(path):
        """What HAProxy says of its servers: name and address, which is "" before it is known."""
        with socket.socket(socket.AF_UNIX) as control:
            try:
                control.connect(path)
            except OSError:
                return {}
            control.sendall(b"show servers state back\n")
            answer = b"".join(iter(lambda: control.recv(65536), b"")).decode()
        fields = [line.split() for line in answer.splitlines()[2:] if line]
        return {field[3]: field[4].replace("-", "") for field in fields}


PROGRAMS = [Dnsdist(), DnsdistWithSource(), DnsdistNextRelease(), NginxStream(), NginxStreamBound(), HaproxyResolvers()]
