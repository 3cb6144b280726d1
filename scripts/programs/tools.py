# SPDX-License-Identifier: Apache-2.0
"""Servers and tools that connect UDP sockets each in its own way: media, time, measuring, tests."""
import csv
import json
import re

from quic import certificate
from suite.program import Program, Result

ADDRESS = "127.0.0.1"


def is_open(place, port):
    return f":{port} " in place.inside_call("ss", "-Hun", "-a") + " "


class Coturn(Program):
    """Clients that talk to each other by a relay."""
    name, title = "coturn", "coturn, 20 clients in pairs"
    packages = ("coturn",)
    unit = "messages"
    seconds = 40
    clients, messages, port = 20, 20, 3478

    def run(self, place):
        config = place.write("turnserver.conf", f"""
listening-ip={ADDRESS}
listening-port={self.port}
relay-ip={ADDRESS}
min-port=50000
max-port=52000
user=a:b
realm=test
lt-cred-mech
allow-loopback-peers
no-cli
no-tls
no-dtls
userdb={place.folder}/users
pidfile={place.folder}/pid
log-file=stdout
simple-log
""")
        server = place.program("turnserver", "-c", config)
        place.wait("coturn's socket", lambda: is_open(place, self.port), server)
        client = place.start("turnutils_uclient", "-y", "-c", "-u", "a", "-w", "b", "-m",
                             str(self.clients), "-n", str(self.messages), ADDRESS, guarded=False)
        said = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", place.finish(client))
        sent, received = map(int, said[-1])
        return Result(asked=sent, right=received, dropped=place.dropped())


class DatagramTLS(Program):
    """The server's socket is connected to its client; it serves one, and there are ten in turn."""
    name, title = "openssl-dtls", "OpenSSL, `s_server -dtls -listen` and `s_client`"
    packages = ("openssl",)
    unit = "handshakes"
    seconds = 30
    count, port = 10, 4433

    def run(self, place):
        certificate(place)
        for _ in range(self.count):
            # (It ends before its client when it has nothing to read.)
            server = place.program("sh", "-c", "tail -f /dev/null | openssl s_server -dtls -listen "
                                   f"-naccept 1 -accept {ADDRESS}:{self.port} -cert cert.pem "
                                   "-key key.pem")
            place.wait("the server's socket", lambda: is_open(place, self.port), server)
            client = place.start("openssl", "s_client", "-dtls", "-brief", "-connect",
                                 f"{ADDRESS}:{self.port}", log="client.log")
            place.wait("the client's end", lambda: client.poll() is not None)
            place.wait("the server's end", lambda: not is_open(place, self.port))
        right = place.read("client.log").count("CONNECTION ESTABLISHED")
        return Result(asked=self.count, right=right)


class Iperf3(Program):
    """Its server connects the socket that it listens on, and makes another."""
    name, title = "iperf3", "iperf3, UDP, 8 streams"
    packages = ("iperf3",)
    unit = "datagrams"
    seconds = 25
    streams, port = 8, 5201

    def run(self, place):
        server = place.program("iperf3", "-s", "-1", "-p", str(self.port))
        place.wait("iperf3's listener", lambda: f":{self.port} " in place.inside_call("ss", "-Hltn"),
                   server)
        client = place.start("iperf3", "-c", ADDRESS, "-p", str(self.port), "-u", "-P",
                             str(self.streams), "-b", "400K", "-l", "1000", "-t", "3", "--json")
        result = json.loads(place.finish(client))["end"]["sum"]
        return Result(asked=result["packets"], right=result["packets"] - result["lost_packets"],
                      dropped=place.dropped())


class Chrony(Program):
    """From a socket of its own for each question."""
    name, title = "chrony", "chrony, 50 servers"
    # (There, since no machine has two programs for its clock.)
    release = "trixie"
    packages = ("chrony",)
    unit = "servers"
    seconds = 40
    count = 50

    def settings(self, place, name, text):
        return ["chronyd", "-x", "-d", "-u", "root", "-f", place.write(
            f"{name}.conf", f"pidfile {place.folder}/{name}.pid\n{text}")]

    def run(self, place):
        place.start(*self.settings(place, "server", "local stratum 1\nallow\ncmdport 0\n"
                                   "bindcmdaddress /\n"),
                    log="server.log", guarded=False, root=place.root)
        # In a folder that it makes, for nobody else to enter.
        commands = f"{place.folder}/chrony/commands"
        client = place.program(*self.settings(
            place, "client", f"port 0\nbindcmdaddress {commands}\n" + "".join(
                f"server 127.0.3.{number + 1} minpoll -2 maxpoll -2\n"
                for number in range(self.count))))

        def reached():
            """Servers whose answers have come, by the register of the last eight."""
            asked = place.start("chronyc", "-h", commands, "-n", "-c", "sources",
                                guarded=False, root=place.root)
            output, _ = asked.communicate()
            return sum(row[5] != "0" for row in csv.reader(output.decode().splitlines())
                       if len(row) > 5)

        place.wait("an answer of each server", lambda: reached() == self.count, client)
        return Result(asked=self.count, right=reached(), dropped=place.dropped())


class Socat(Program):
    """A child with a connected socket for each client, beside the socket that it came to."""
    name, title = "socat", "socat, `UDP-LISTEN,fork`, 20 clients"
    packages = ("socat",)
    unit = "clients"
    seconds = 30
    clients, port = 20, 5000

    def run(self, place):
        server = place.program("socat", f"UDP4-LISTEN:{self.port},bind={ADDRESS},fork,reuseaddr",
                               "PIPE")
        place.wait("socat's socket", lambda: is_open(place, self.port), server)
        for number in range(self.clients):
            place.start("sh", "-c", f"echo client {number} | socat -t 30 - UDP4:{ADDRESS}:{self.port}",
                        log=f"client-{number}.log", guarded=False)
            # Who comes while it forks is its own affair.
            place.wait("the client's answer", lambda: place.read(f"client-{number}.log"), server)
        answers = [place.read(f"client-{number}.log") for number in range(self.clients)]
        right = sum(answer == f"client {number}\n" for number, answer in enumerate(answers))
        return Result(asked=self.clients, right=right, wrong=self.clients - right)


class SIPp(Program):
    """A socket for each call."""
    name, title = "sipp", "SIPp, a socket for each call"
    packages = ("sip-tester",)
    unit = "calls"
    seconds = 30
    calls, port = 200, 5060

    def run(self, place):
        server = place.start("sipp", "-sn", "uas", "-i", ADDRESS, "-p", str(self.port), "-nostdin",
                             log="server.log")
        place.wait("the server's socket", lambda: is_open(place, self.port), server)
        client = place.program("sipp", "-sn", "uac", f"{ADDRESS}:{self.port}", "-i", "127.0.0.7", "-p",
                               "6000", "-t", "un", "-m", str(self.calls), "-r", "50", "-max_socket",
                               "400", "-nostdin", "-trace_stat", "-stf", "calls.csv")
        place.wait("SIPp's end", lambda: client.poll() is not None)
        rows = list(csv.DictReader(place.read("calls.csv").splitlines(), delimiter=";"))
        return Result(asked=self.calls, right=int(rows[-1]["SuccessfulCall(C)"]),
                      errors=int(rows[-1]["FailedCall(C)"]), dropped=place.dropped())


PROGRAMS = [Coturn(), DatagramTLS(), Iperf3(), Chrony(), Socat(), SIPp()]
