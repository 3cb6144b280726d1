#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# The checks of scripts/test-service: the packages and the service on a machine that booted with
# systemd. Runs there, as a service outside what is guarded; in two parts, with a reboot between.
import json, os, pathlib, re, subprocess, sys, time, traceback

HERE = pathlib.Path(__file__).parent
CONFIGURATION = pathlib.Path("/etc/tupleguard/tupleguard.conf")
PINS = "/sys/fs/bpf/tupleguard"
DROP_IN = pathlib.Path("/run/systemd/system/tupleguard.service.d/test.conf")
PART = pathlib.Path("/var/lib/test-service-part")
passed, failed = 0, 0


def run(command, seconds=600):
    """A shell's status and all that it says."""
    done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    return done.returncode, done.stdout


def said(command, seconds=600):
    return run(command, seconds)[1]


def check(name, holds, detail=""):
    global passed, failed
    if holds:
        passed += 1
        print("ok      %6.1f  %s" % (time.monotonic(), name), flush=True)
    else:
        failed += 1
        print("FAILED  %6.1f  %s: %s" % (time.monotonic(), name, detail), flush=True)


def eventually(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def check_eventually(name, condition, command, seconds=120):
    """A check that is given time; `command` says what there was instead."""
    holds = eventually(condition, seconds)
    check(name, holds, "" if holds else said(command))


def journal(more=""):
    return said("journalctl -b --no-pager -o cat -u tupleguard " + more)


def show(name):
    return said("systemctl show tupleguard --value -p " + name).strip()


def unit(name, arguments, options=""):
    """Has systemd run sockets.py as a service of system.slice, and waits for its first line."""
    said("systemctl stop %s; systemctl reset-failed %s" % (name, name))
    log = "/run/test-%s.log" % name
    status, output = run("rm -f %s; systemd-run -q --unit=%s %s -p StandardOutput=file:%s "
                         "python3 %s/sockets.py %s" % (log, name, options, log, HERE, arguments))
    if status != 0:
        return output
    eventually(lambda: os.path.exists(log) and os.path.getsize(log) > 0)
    return pathlib.Path(log).read_text() if os.path.exists(log) else ""


def duplicate(name, port):
    """What a second connect with a tuple of `port` got, in a unit of that name."""
    return unit(name, "connect %d" % port).strip()


def configure(text):
    CONFIGURATION.write_text(text)


# MARK: - The first boot

def check_installation():
    status, output = run("cd %s && apt-get install -y ./first/*.deb" % HERE)
    check("apt installs the packages", status == 0, output)
    check("nothing is guarded before it is configured",
          said("systemctl is-enabled tupleguard").strip() == "disabled"
          and show("ActiveState") == "inactive" and not os.path.exists(PINS))
    status, output = run("tupleguard --version && man -w tupleguard-run 2>/dev/null; "
                         "ls /usr/share/man/man8/tupleguard-run.8.gz "
                         "/usr/share/man/man5/tupleguard.conf.5.gz")
    check("the command and its pages are there", status == 0, output)
    score = said("systemd-analyze security --no-pager tupleguard.service | tail -1")
    check("the unit's exposure is 2.0 at most (%s)" % "".join(re.findall(r"level.*: ([\d.]+)", score)),
          float(re.search(r": ([\d.]+)", score)[1]) <= 2.0, score)
    output = said("systemd-analyze verify --man=no tupleguard.service")
    check("systemd finds no fault with the unit", "tupleguard" not in output, output)
    run("systemctl start tupleguard")
    check("without a cgroup it fails, says so, and is not tried again",
          show("Result") == "exit-code" and show("NRestarts") == "0"
          and "--cgroup" in journal(), journal())


def check_first_use():
    """What the README says: edit one line, enable, and see a duplicate refused."""
    # From before the guard: of a service, of one with a network of its own, of another user's.
    unit("before", "hold 7100")
    unit("before-net", "hold 7300", "-p PrivateNetwork=yes")
    unit("before-user", "hold 7400", "-p PrivateNetwork=yes -p User=nobody")
    said("sed -i 's/^#cgroup = system.slice/cgroup = system.slice/' %s" % CONFIGURATION)
    status, output = run("systemctl enable --now tupleguard")
    check("one line edited, systemctl enable --now starts it", status == 0, output + journal())
    check("its status line says what it guards", "guarding 1 of 1" in show("StatusText"),
          show("StatusText"))
    claims = said("tupleguard claims")
    for port, name in (7100, "before"), (7300, "before-net"), (7400, "before-user"):
        check("the socket of %s.service, older than the guard, has a claim" % name,
              re.search(r":%d .*%s\.service" % (port, name), claims), claims)
    unit("web1", "hold 7000")
    check("a duplicate is refused", duplicate("web2", 7000) == "EPERM")
    check_eventually("the journal names both units",
                     lambda: re.search(r"refused 127.0.0.1:7000 .*web2\.service.*web1\.service", journal()),
                     "journalctl -b -u tupleguard")
    check("the journal finds it by its field",
          "web2" in said("journalctl -b --no-pager -o cat TUPLEGUARD_HOLDER_UNIT=web1.service"),
          said("journalctl -b --no-pager -o verbose -t tupleguard | tail -40"))
    conflicts = said("tupleguard conflicts")
    print("== journalctl -u tupleguard -p notice\n%s== tupleguard conflicts\n%s" % (
        said("journalctl -b --no-pager -u tupleguard -p notice"), conflicts), flush=True)
    check("conflicts names both units", "web1.service" in conflicts and "web2.service" in conflicts,
          conflicts)
    check("and so it does where the older socket is another user's",
          duplicate("late", 7100) == "EPERM", said("tupleguard claims"))
    output = said("journalctl -b -q --no-pager -p warning -t tupleguard _SYSTEMD_INVOCATION_ID=" + show("InvocationID"))
    check("the journal has no warning", output == "", output)
    status, output = run("tupleguard doctor")
    check("doctor looks at the host", status in (0, 1, 2), output)
    status, output = run("tupleguard status")
    check("status sees guard and agent", status == 0 and "running" in output, output)


def check_reports():
    """What connectx runs into in a program of nobody's, outside what is guarded, reaches the agent."""
    holder = subprocess.Popen(["python3", str(HERE / "sockets.py"), "hold", "7500"],
                              stdout=subprocess.PIPE)
    holder.stdout.readline()
    output = said("setpriv --reuid=65534 --regid=65534 --clear-groups "
                  "tupleguard connect udp 127.0.0.1:7500 127.0.0.1:7501 </dev/null")
    check_eventually("an unprivileged program's report arrives",
                     lambda: re.search(r"^conflict +[1-9]", said("tupleguard stats"), re.M),
                     "tupleguard stats")
    holder.kill()


def check_reload():
    configure("cgroup = system.slice\nmode = observe\n")
    pid = show("MainPID")
    status, output = run("systemctl reload tupleguard")
    check("a reload is taken", status == 0, output + journal("-n 20"))
    check_eventually("a reload brings the new policy",
                     lambda: duplicate("observed", 7000) == "connected", "tupleguard status")
    configure("cgroup = system.slice\nmode = enforce\nmood = good\n")
    status, output = run("systemctl reload tupleguard")
    check("a reload of a file with a mistake fails", status != 0, output)
    check("the journal names file and line", "%s:3: " % CONFIGURATION in journal(), journal())
    check("the agent keeps what it has", duplicate("observed", 7000) == "connected"
          and show("MainPID") == pid, said("systemctl status tupleguard"))
    configure("cgroup = system.slice\ncgroup = late.slice\n")
    run("systemctl reload tupleguard")
    check_eventually("a cgroup that is not there is waited for, and the status line says so",
                     lambda: "missing" in show("StatusText") and "late.slice" in show("StatusText"),
                     "systemctl status tupleguard")
    unit("latecomer", "hold 7600", "--slice=late.slice")
    check_eventually("and guarded when it is there",
                     lambda: "guarding 2 of 2" in show("StatusText"), "systemctl status tupleguard")
    check("the policy is the file's again", duplicate("enforced", 7000) == "EPERM")
    check("the agent was never started anew", show("MainPID") == pid)


def check_detached():
    status, output = run("tupleguard detach --all")
    check("the guard can be taken off under the agent", status == 0, output)
    check_eventually("the agent attaches it again",
                     lambda: duplicate("again", 7000) == "EPERM", "tupleguard status; " +
                     "journalctl -b -u tupleguard")
    check("and says what happened", "took the guard off" in journal(), journal())


class Load:
    """A service that tries a taken tuple without end."""

    def __enter__(self):
        unit("load", "load 7000")
        return self

    def __exit__(self, *error):
        self.attempts = self.refused = -1
        said("systemctl kill --signal=TERM load; sleep 1")
        counted = pathlib.Path("/run/test-load.log").read_text().strip().split("\n")[-1]
        match = re.match(r"(\d+) attempts, (\d+) refused", counted)
        if match:
            self.attempts, self.refused = int(match[1]), int(match[2])


def check_under_load():
    with Load() as load:
        pid = show("MainPID")
        said("kill -9 " + pid)
        check_eventually("killed, it is started again",
                         lambda: show("MainPID") not in ("0", pid) and show("ActiveState") == "active",
                         "systemctl status tupleguard")
        said("systemctl restart tupleguard")
        check("and restarts", show("ActiveState") == "active", journal())
        before = said("dpkg-query -W -f '${Version}' tupleguard")
        pid = show("MainPID")
        status, output = run("cd %s && apt-get install -y ./second/*.deb" % HERE)
        after = said("dpkg-query -W -f '${Version}' tupleguard")
        check("an upgrade from %s to %s installs" % (before, after), status == 0 and after != before,
              output)
        check_eventually("and the agent is the new one",
                         lambda: show("MainPID") not in ("0", pid) and show("ActiveState") == "active",
                         "systemctl status tupleguard")
    check("of %d attempts meanwhile %d were refused: all" % (load.attempts, load.refused),
          load.attempts == load.refused and load.attempts > 1000)
    check("the edited configuration was kept", "late.slice" in CONFIGURATION.read_text())


def check_watchdog():
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("[Service]\nWatchdogSec=6\n")
    said("systemctl daemon-reload; systemctl restart tupleguard")
    pid = show("MainPID")
    said("sleep 10")
    check("an agent that works is left alone by the watchdog", show("MainPID") == pid, journal())
    said("kill -STOP " + pid)
    check_eventually("one that does not is started anew",
                     lambda: show("MainPID") not in ("0", pid) and show("ActiveState") == "active",
                     "systemctl status tupleguard")
    check("and the guard was on all the while", duplicate("stopped", 7000) == "EPERM")
    DROP_IN.unlink()
    said("systemctl daemon-reload; systemctl restart tupleguard")


def check_scan():
    """Without a guard, by looking at sockets: netlink, and the way into other namespaces."""
    DROP_IN.write_text("[Service]\nExecStart=\nExecStart=/usr/bin/tupleguard run --scan --interval 1\n")
    said("systemctl stop tupleguard; tupleguard detach --all; systemctl daemon-reload; "
         "systemctl start tupleguard")
    unit("pair", "pair 7800", "-p PrivateNetwork=yes")
    check_eventually("run --scan finds a pair in another network namespace, under the unit's limits",
                     lambda: ":7800" in journal(), "journalctl -b -u tupleguard")
    said("systemctl stop pair")
    DROP_IN.unlink()
    said("systemctl daemon-reload; systemctl restart tupleguard")
    check("and a guard takes over from it", duplicate("after-scan", 7000) == "EPERM", journal())


def first_boot():
    check_installation()
    check_first_use()
    check_reports()
    check_reload()
    check_detached()
    check_under_load()
    check_watchdog()
    check_scan()
    pathlib.Path("/etc/systemd/system/early.service").write_text(
        "[Service]\nExecStart=python3 /opt/sockets.py hold 7000\n[Install]\nWantedBy=multi-user.target\n")
    said("cp %s/sockets.py /opt/; systemctl enable early" % HERE)


# MARK: - The second boot

def second_boot():
    check("it is started at boot", show("ActiveState") == "active", journal())
    begun = int(show("ActiveEnterTimestampMonotonic"))
    basic = int(said("systemctl show basic.target --value -p ActiveEnterTimestampMonotonic"))
    check("before the services that it guards", 0 < begun <= basic, "%d, %d" % (begun, basic))
    output = said("journalctl -b -1 --no-pager -o cat -u tupleguard | tail -5")
    check("it was stopped in order at shutdown", "stopped" in output, output)
    check("what a service has is guarded from the start", duplicate("second", 7000) == "EPERM",
          said("tupleguard claims"))
    check_eventually("and the journal names both",
                     lambda: re.search(r"second\.service.*early\.service", journal()),
                     "journalctl -b -u tupleguard")
    status, output = run("apt-get remove -y tupleguard")
    check("apt removes it", status == 0, output)
    check("and the guard with it", not os.path.exists(PINS)
          and duplicate("removed", 7000) == "connected", output)
    check("the configuration is left", CONFIGURATION.exists())
    status, output = run("apt-get purge -y tupleguard libconnectx1 libconnectx-dev")
    left = said("find / -xdev -iname '*tupleguard*' -not -path '/proc/*' -not -path '/sys/*' "
                "-not -path '/run/log/*' -not -path '/var/log/*'")
    check("after a purge nothing is left", status == 0 and left == "", output + left)


try:
    if PART.exists():
        passed, failed = json.loads(PART.read_text())
        second_boot()
        print("%d passed, %d failed" % (passed, failed), flush=True)
        said("systemctl poweroff")
    else:
        first_boot()
        PART.write_text(json.dumps([passed, failed]))
        print("== reboot", flush=True)
        said("systemctl reboot")
except Exception as error:
    print("FAILED  the checks themselves: %r" % error, flush=True)
    traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    said("systemctl poweroff")
