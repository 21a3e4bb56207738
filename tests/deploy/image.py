"""The root file system of the hosts that playbooks are tried on: a small Debian, made once.

It is kept under ``.cache/``, with the tools that make and boot it; nothing is installed on this
machine. Hosts have no way out: the packages that a playbook asks apt for are in apt's own cache.

Invariants:
  * An image has its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.steps import StepError, run, unpack

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "hosts"
TOOLS = ("debootstrap", "systemd-container")
#: In the image from the beginning: what any server has.
INSTALLED = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "iproute2",
    "python3",
    "python3-apt",
    "sudo",
    "man-db",
    "ufw",
    "curl",
)
#: Installed by apt in what debootstrap has made.
ADDED = ("firewalld", "faketime")
#: In apt's cache: what a playbook installs, or somebody by hand, or to look at an rpm.
OFFERED = ("etcd-server", "python3-venv", "rpm")

_SECONDS = 600.0
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def require() -> None:
    """See that hosts can be made on this machine.

    Raises:
        StepError: they cannot; its text says why.
    """
    if os.geteuid() != 0:
        raise StepError("hosts need root rights")
    missing = [
        tool
        for tool in ("apt-get", "dpkg-deb", "ip", "nsenter", "ssh")
        if shutil.which(tool) is None
    ]
    if missing:
        raise StepError(f"hosts need {' and '.join(missing)}")
    run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], _SECONDS)


def nspawn() -> tuple[list[str], Mapping[str, str]]:
    """Return the program that boots a host, and the environment that it wants."""
    found = shutil.which("systemd-nspawn")
    if found is not None:
        return [found], os.environ
    tools = _tools()
    libraries = [str(path.parent) for path in tools.glob("usr/lib/**/libsystemd-shared-*.so")]
    paths = [*libraries, "/usr/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd"]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}
    return [str(tools / "usr/bin/systemd-nspawn")], environment


def image() -> Path:
    """Return the folder of the image, made now if it is not there.

    Raises:
        StepError: it cannot be made.
    """
    require()
    wanted = repr((TOOLS, INSTALLED, ADDED, OFFERED)).encode()
    path = CACHE / f"image-{hashlib.sha256(wanted).hexdigest()[:12]}"
    if path.is_dir():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    source, suite = _source()
    part = Path(tempfile.mkdtemp(prefix="part-", dir=CACHE))
    try:
        _bootstrap(part, source, suite)
        _add(part)
        _furnish(part)
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return path


def _bootstrap(folder: Path, source: str, suite: str) -> None:
    tools = _tools()
    script = shutil.which("debootstrap") or str(tools / "usr/sbin/debootstrap")
    environment = dict(os.environ)
    if not Path("/usr/share/debootstrap").is_dir():
        environment["DEBOOTSTRAP_DIR"] = str(tools / "usr/share/debootstrap")
    include = f"--include={','.join(INSTALLED)}"
    options = ["--variant=minbase", include, f"--keyring={_KEYRING}"]
    command = ["sh", script, *options, suite, str(folder), source]
    run(command, _SECONDS, environment=environment)


def _add(folder: Path) -> None:
    """Install what debootstrap cannot, and have apt hold packages ready for playbooks."""
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # starts no service: they would run out here
    policy.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "--yes", "--no-install-recommends"]
    for words in (
        ["clean"],
        ["update"],
        [*install, *ADDED],
        ["clean"],
        [*install, "--download-only", *OFFERED],
    ):
        command = ["chroot", str(folder), "apt-get", "-qq", *words]
        run(command, _SECONDS, environment=environment)
    policy.unlink()
    (folder / "etc/resolv.conf").unlink()


def _furnish(folder: Path) -> None:
    """Leave out what would be the same on all hosts, and what has nothing to do there."""
    for key in (folder / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (folder / "etc/machine-id").write_text("")
    (folder / "etc/hostname").unlink(missing_ok=True)
    policy = folder / "etc/ssh/sshd_config.d/hosts.conf"
    policy.write_text("PermitRootLogin prohibit-password\nUseDNS no\n")
    # The network is made from outside; a host that waits for it to be "online" would wait long.
    for unit in ("systemd-networkd-wait-online.service", "apt-daily.timer", "man-db.timer"):
        link = folder / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    run(["chroot", str(folder), "systemctl", "--quiet", "disable", "firewalld"], _SECONDS)


def offered(name: str) -> Path:
    """Return the file of a package that apt has ready in the image."""
    (path,) = (image() / "var/cache/apt/archives").glob(f"{name}_*.deb")
    return path


def _tools() -> Path:
    """Return where the tools are unpacked."""
    path = CACHE / "tools"
    if path.is_dir():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tools-", dir=CACHE) as name:
        folder = Path(name)
        apt = ["apt-get", "-qq", "-oAPT::Sandbox::User=root"]
        try:
            run([*apt, "download", *TOOLS], _SECONDS, folder)
        except StepError:  # lists that are not there, or old
            run([*apt, "update"], _SECONDS, folder)
            run([*apt, "download", *TOOLS], _SECONDS, folder)
        unpack(folder, folder / "tree")
        (folder / "tree").rename(path)
    return path


def _source() -> tuple[str, str]:
    """Return where this machine gets Debian from, and which release."""
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    listed = run(["apt-get", "indextargets", "--format", form], _SECONDS)
    for line in listed.splitlines():
        origin, component, codename, address = line.split(maxsplit=3)
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return address, codename
    raise StepError("hosts need apt with a source of Debian")
