# SPDX-License-Identifier: Apache-2.0
"""QUIC: servers whose clients come back from the same ports, and a client of many servers."""
import json
import pathlib
import subprocess

from suite import debian
from suite.program import Program, Result

CLIENT = pathlib.Path(__file__).with_name("sources") / "http3.py"
PYTHON = debian.CACHE / "aioquic/bin/python3"
ADDRESS, PORT = "127.0.0.1", 443


def install_client():
    """aioquic, which Debian 12 does not have, in a folder of its own."""
    if (debian.CACHE / "aioquic/complete").exists():
        return
    debian.install(["python3-venv"])
    print("installing aioquic", flush=True)
    for command in (["/usr/bin/python3", "-m", "venv", "--clear", PYTHON.parent.parent],
                    [debian.AGAIN, PYTHON, "-m", "pip", "install", "--quiet", "aioquic"]):
        done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise debian.NotToBeHad(f"aioquic: {done.stdout[-2000:]}")
    (debian.CACHE / "aioquic/complete").write_text("")


def certificate(place):
    """Its own, with its key, in one file."""
    place.call("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
               "/CN=a.test", "-keyout", f"{place.folder}/key.pem", "-out", f"{place.folder}/cert.pem")
    return place.write("both.pem", place.read("cert.pem") + place.read("key.pem"))


class Server(Program):
    """A hundred clients that are killed, and a hundred more from the same ports."""
    release = "trixie"
    tools = ("openssl",)
    unit = "requests"
    clients = 100
    seconds = 50

    def prepare(self, _):
        install_client()

    def command(self, place):
        raise NotImplementedError

    def ask(self, place, log):
        """A hundred requests; the process that keeps the connections, and what came of them."""
        client = place.start(str(PYTHON), "-B", str(CLIENT), ADDRESS, str(PORT), str(self.clients),
                             "20000", log=log, guarded=False)

        def said():
            return [line for line in place.read(log).splitlines() if line.endswith("}")]

        return client, json.loads(place.wait("a hundred answers", said, client)[0])

    def run(self, place):
        certificate(place)
        server = place.program(*self.command(place))
        place.wait("the server's socket",
                   lambda: f"{ADDRESS}:{PORT}" in place.inside_call("ss", "-Hun", "-a"), server)
        client, first = self.ask(place, "first.log")
        # It says no good-bye: the server believes that its connections go on.
        client.kill()
        client.wait()
        _, second = self.ask(place, "second.log")
        return Result(**{key: first[key] + second[key] for key in first}, dropped=place.dropped())


class HAProxy(Server):
    name, title = "haproxy-quic", "HAProxy, HTTP/3, 100 clients that come back"
    packages = ("haproxy",)

    def command(self, place):
        return ["haproxy", "-db", "-f", place.write("haproxy.cfg", f"""
global
    limited-quic
    maxconn 2000
defaults
    mode http
    timeout client 10m
    timeout http-request 10m
frontend quic
    bind quic4@{ADDRESS}:{PORT} ssl crt {place.folder}/both.pem alpn h3
    http-request return status 200 content-type text/plain lf-string "%[path]"
""")]


def nginx(place, listen, location):
    return ["nginx", "-p", place.folder, "-c", place.write("nginx.conf", f"""
user root;
daemon off;
worker_processes 2;
pid nginx.pid;
error_log nginx.log;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    server {{
        listen {listen} quic reuseport;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        ssl_protocols TLSv1.3;
        location / {{ {location} }}
    }}
}}
""")]


class Nginx(Server):
    """It answers all from one socket for each worker."""
    name, title = "nginx-quic", "nginx, HTTP/3, 100 clients that come back"
    packages = ("nginx",)

    def command(self, place):
        return nginx(place, f"{ADDRESS}:{PORT}", 'return 200 "$uri";')


class Curl(Program):
    """Many servers at the same time, whose answers take a while."""
    name, title = "curl", "curl, HTTP/3 from 250 servers, 50 ports"
    release = "trixie"
    packages = ("curl",)
    tools = ("openssl",)
    unit = "downloads"
    ports = (40_000, 40_049)
    complete = ("all",)
    seconds = 60
    servers = 250

    def install(self):
        debian.install(["nginx"], debian.root_of(self.release))
        return super().install()

    def run(self, place):
        certificate(place)
        place.write("text", "0123456789" * 200)
        server = place.start(*nginx(place, PORT, f"root {place.folder}; limit_rate 200; "
                                    "add_header x-server $server_addr;"),
                             log="nginx.out", guarded=False, root=place.root)
        place.wait("the server's socket",
                   lambda: f":{PORT}" in place.inside_call("ss", "-Hun", "-a"), server)
        addresses = [f"127.0.16.{number + 1}" for number in range(self.servers)]
        place.write("urls", "".join(f'url = "https://{address}/text"\noutput = "{address}"\n'
                                    for address in addresses))
        client = place.program(
            "curl", "--http3-only", "--insecure", "--silent", "--parallel", "--parallel-immediate",
            "--parallel-max", "300", "--max-time", "60", "--config", "urls", "--write-out",
            "came %{response_code} %{remote_ip} %header{x-server}\\n")
        place.wait("curl's end", lambda: client.poll() is not None)
        came = [line.split()[1:] for line in place.read("program.log").splitlines()
                if line.startswith("came 200")]
        text = place.read("text")
        right = sum(answer[1:] == [answer[1]] * 2 and place.read(answer[1]) == text for answer in came)
        return Result(asked=self.servers, right=right, wrong=len(came) - right,
                      errors=self.servers - len(came))


PROGRAMS = [HAProxy(), Nginx(), Curl()]
