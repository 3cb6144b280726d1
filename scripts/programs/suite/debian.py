# SPDX-License-Identifier: Apache-2.0
"""Programs from Debian: this machine's own packages, or those of another release in a folder."""
import fcntl
import os
import pathlib
import subprocess

AGAIN = str(pathlib.Path(__file__).resolve().parents[2] / "again")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache",
                     "tupleguard-programs")
POLICY = "#!/bin/sh\n# Made by tupleguard's scripts/test-programs, and removed by it: nothing starts.\nexit 101\n"


class NotToBeHad(Exception):
    """A program that cannot be installed here, and why."""


def version_of(package, root="/"):
    """The installed version without epoch; None: not installed."""
    answer = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Status} ${Version}", package],
        capture_output=True, text=True).stdout
    installed, _, version = answer.partition("install ok installed ")
    return version.split(":")[-1] if version and not installed else None


def install(packages, root="/"):
    """Installs those that are missing; what they would start as a service stays off."""
    missing = [package for package in packages if version_of(package, root) is None]
    if not missing:
        return
    where = "" if root == "/" else f" in {root}"
    print(f"installing {' '.join(missing)}{where}", flush=True)
    enabled = set(enabled_units(root))
    policy = pathlib.Path(f"{root}/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text(POLICY)
        policy.chmod(0o755)
    try:
        options = ["-o", "DPkg::Lock::Timeout=600", "-qq"]
        apt_get(root, "update", *options)
        apt_get(root, "install", "-y", "--no-install-recommends", *options, *missing)
    finally:
        if made:
            policy.unlink()
        for unit in set(enabled_units(root)) - enabled:
            inside(root, ["deb-systemd-helper", "disable", unit])


def remove_left_over_policy():
    """Of a run that was killed while it installed."""
    path = pathlib.Path("/usr/sbin/policy-rc.d")
    if path.exists() and path.read_text() == POLICY:
        path.unlink()


def enabled_units(root):
    """Services that the next boot would start."""
    return [path.name for path in pathlib.Path(f"{root}/etc/systemd/system").glob("*.wants/*")]


def inside(root, command):
    """Runs what installs things, with what it needs of /proc and /dev; its output if it fails."""
    if root != "/":
        mounts = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
        command = ["unshare", "--mount", "sh", "-c", mounts, root, *command]
    # (deb-systemd-helper wants to be told a package, and does nothing with it.)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C.UTF-8",
                       DPKG_MAINTSCRIPT_PACKAGE="tupleguard")
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise NotToBeHad(f"{' '.join(command)}: {done.stdout[-2000:].strip()}")


def apt_get(root, *arguments):
    command = ["apt-get", *arguments]
    if root == "/":
        return inside(root, [AGAIN, *command])
    for attempt in range(3):
        try:
            return inside(root, command)
        except NotToBeHad:
            if attempt == 2:
                raise


def mirror():
    """The address that this machine has Debian's packages from."""
    addresses = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True).stdout.split()
    ours = [address.rstrip("/") for address in addresses]
    return next((a for a in ours if a.endswith("/debian")), "http://deb.debian.org/debian")


def root_of(release):
    """The folder of another release; made by debootstrap when it is asked for first, and kept."""
    root = CACHE / release
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "complete").exists():
            install(["debootstrap"])
            print(f"making {root}: Debian's {release}, for programs that are newer there (minutes)",
                  flush=True)
            subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
            inside("/", [AGAIN, "debootstrap", "--variant=minbase", release, str(root), mirror()])
            (root / "complete").write_text("")
    return str(root)
