# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What is wrong with the hosts that are to be a collective, looked at all together.

It runs nothing, and imports nothing of Ansible: the project's unit tests try it as it is.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
# What would lead other servers elsewhere: a number is read as an IPv4 address.
_ELSEWHERE = re.compile(r"localhost|[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
OLDEST_PYTHON = (3, 10)
#: Sources of etcd with which a service comes, which is stopped.
PACKAGED = ("distribution", "package", "bundle")


def problems(hosts: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each thing that is wrong; nothing is to be changed then.

    Args:
        hosts: one dictionary a host: host (its name in the inventory), name, address, port,
            peer_port, voting, python (such as "3.11.2", or ""), listening (port: program),
            collective (what 'show' told, or {}), etcd_service (whether the distribution's service
            etcd runs), etcd_source (where etcd is to be from), packaged (whether a package has
            installed the service collectived) and not_links (what is where links are to be).
    """
    return (
        _names(hosts)
        + _twice(hosts)
        + _renamed(hosts)
        + _pythons(hosts)
        + _numbers(hosts)
        + _ports(hosts)
        + _services(hosts)
        + _installed_otherwise(hosts)
        + _votes(hosts)
        + (_mixed(hosts) or _leaderless(hosts) or _nobody(hosts))
    )


def sponsor(hosts: list[dict[str, Any]]) -> str:
    """Return the host that takes the others in; who joins it moves its own data aside.

    It is one of the collective that there is. Where there is none, it is the one with the longest
    history of those that are each alone, and the first that is to vote where none has any.

    Args:
        hosts: as for problems, which has found nothing.
    """
    formed = [h for h in _formed(hosts) if _mode(h) == "member" and h["collective"]["quorum"]]
    if formed:
        # One that is to lose its vote takes nobody in when it has.
        return str(max(formed, key=lambda h: bool(h["voting"]))["host"])
    return str(max(_founders(hosts), key=lambda h: h["collective"].get("revision") or 0)["host"])


def order(hosts: list[dict[str, Any]]) -> list[str]:
    """Return the hosts in the order of an upgrade: without a vote first, the leader last."""

    def rank(host: dict[str, Any]) -> int:
        if host["collective"].get("leader") == host["name"].lower():
            return 2
        return 1 if host["voting"] else 0

    return [host["host"] for host in sorted(hosts, key=rank)]


def warnings(hosts: list[dict[str, Any]], clock_seconds: int) -> list[str]:
    """Return a sentence for what is not wise, and no reason to stop.

    Args:
        hosts: as for problems, each with clock_low and clock_high too: seconds that it is ahead
            of the controller, at least and at most.
        clock_seconds: how far two clocks may be apart.
    """
    return _clocks(hosts, clock_seconds) + _weak_quorum(hosts)


def _weak_quorum(hosts: list[dict[str, Any]]) -> list[str]:
    """Find what makes a quorum weaker than it could be."""
    voters = sum(1 for host in hosts if host["voting"])
    losing = [
        h["host"] for h in hosts if not h["voting"] and _mode(h) == "member" and _votes_now(h)
    ]
    found = []
    if losing:
        found = [
            f"{', '.join(losing)} will not vote any more: of {voters} voters that are left "
            f"{max(voters - 1, 0) // 2} may be lost"
        ]
    if not voters or voters % 2:
        return found
    fewer = "one alone does" if voters == 2 else f"{voters - 1} do"
    return [
        *found,
        f"{voters} voters survive the loss of {(voters - 1) // 2}, as {fewer} too: add one, or "
        "let one not vote (collective_voting: false)",
    ]


def etcd_step(wanted: str, document: dict[str, Any]) -> str:
    """Return what is wrong with changing to another etcd, or nothing.

    etcd's own rule (https://etcd.io/docs/v3.5/upgrades/upgrading-etcd/): one minor version up at
    a time, and none down once all members have the higher one.

    Args:
        wanted: the version that would run, such as "3.5.16", or "" where that is not known.
        document: what 'show' told.
    """
    members = document.get("members") or []
    running = [m["etcd_version"] for m in members if m.get("etcd_version")]
    if not wanted or not running:
        return ""
    oldest = min(running, key=_minor)
    (major, minor), new = _minor(oldest), _minor(wanted)
    if new < (major, minor):
        return (
            f"etcd {wanted} is older than the members' etcd {oldest}, and would not start on "
            "their data; let collective_etcd_source name theirs"
        )
    if new > (major, minor + 1):
        return (
            f"etcd {wanted} is more than one minor version newer than the members' {oldest}; "
            f"go to {major}.{minor + 1} first"
        )
    return ""


def _minor(version: str) -> tuple[int, int]:
    first, second = version.split(".")[:2]
    return int(first), int(second)


def _twice(hosts: list[dict[str, Any]]) -> list[str]:
    names: dict[str, list[str]] = {}
    ports: dict[tuple[str, int], list[str]] = {}
    for host in hosts:
        names.setdefault(host["name"].lower(), []).append(host["host"])
        for port in sorted({host["port"], host["peer_port"]}):
            ports.setdefault((host["address"], port), []).append(host["host"])
    found = [
        "{} have the name {} in common; give each its own collective_name".format(
            " and ".join(users), name
        )
        for name, users in names.items()
        if len(users) > 1
    ]
    shared: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (address, port), users in ports.items():
        if len(users) > 1:
            shared.setdefault((address, tuple(users)), []).append(str(port))
    found += [
        f"{' and '.join(users)} have the address {address} in common, with port "
        f"{' and '.join(numbers)}; give each its own collective_address"
        for (address, users), numbers in shared.items()
    ]
    return found + [
        "{}: collective_port and collective_peer_port are both {}".format(h["host"], h["port"])
        for h in hosts
        if h["port"] == h["peer_port"]
    ]


def _pythons(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        version = tuple(int(part) for part in host["python"].split(".")[:2] if part.isdigit())
        if version < OLDEST_PYTHON:
            found.append(
                "{}: collective_python is {}, and 3.10 or newer is needed".format(
                    host["host"], host["python"] or "not there"
                )
            )
    return found


def _clocks(hosts: list[dict[str, Any]], most: int) -> list[str]:
    # What a host tells is as old as its answer: only what is sure counts.
    slow = min(hosts, key=lambda h: h["clock_high"])
    fast = max(hosts, key=lambda h: h["clock_low"])
    apart = fast["clock_low"] - slow["clock_high"]
    if apart <= most:
        return []
    return [
        f"the clocks of {slow['host']} and {fast['host']} are {apart:.0f} s apart, at most {most} "
        "s are good: the times in their logs do not fit; set them by NTP"
    ]


def _ports(hosts: list[dict[str, Any]]) -> list[str]:
    found = []
    for host in hosts:
        if host["collective"]:
            continue
        if "collectived" in host["listening"].values():
            found.append(
                "{}: collectived runs there and does not answer; see 'journalctl -u collectived', "
                "and restart it when all other voters answer".format(host["host"])
            )
            continue
        for port in (host["port"], host["peer_port"]):
            program = host["listening"].get(str(port))
            if program is not None:
                found.append(
                    "{}: port {} is in use by {}; stop that, or choose another port".format(
                        host["host"], port, program or "another program"
                    )
                )
    return found


def _services(hosts: list[dict[str, Any]]) -> list[str]:
    return [
        "{}: the service etcd runs there, which installing etcd would stop; if nobody uses it, "
        "'systemctl disable --now etcd', else set collective_etcd_source to present".format(
            host["host"]
        )
        for host in hosts
        if host["etcd_service"] and host["etcd_source"] in PACKAGED
    ]


def _installed_otherwise(hosts: list[dict[str, Any]]) -> list[str]:
    """Find hosts that would have the programs twice, and run one of the two."""
    found = []
    for host in hosts:
        if host["packaged"]:
            found.append(
                "{}: the package confluent-collective is installed there, and is upgraded by a "
                "newer one; for this instead, remove it: its data and settings stay".format(
                    host["host"]
                )
            )
        found += [
            "{}: {} is there and is no link, so something else has installed it; remove it, with "
            "'pip uninstall confluent-collective' if it was pip: data and settings stay".format(
                host["host"], path
            )
            for path in host["not_links"]
        ]
    return found


def _mode(host: dict[str, Any]) -> str:
    return host["collective"].get("mode") or ""


def _formed(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the hosts that are in a collective with others."""
    settled = [h for h in hosts if _mode(h) in ("member", "nonvoting")]
    return [h for h in settled if len(h["collective"].get("members") or []) > 1]


def _founders(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the hosts of which one takes the others in, where there is no collective yet."""
    alone = [h for h in hosts if _mode(h) == "member"]
    fresh = [h for h in hosts if h["voting"] and not h["collective"]]
    return [h for h in alone if h["voting"]] or alone or fresh


def _votes_now(host: dict[str, Any]) -> bool:
    members = host["collective"].get("members") or []
    own = [m for m in members if m["name"] == host["collective"].get("name")]
    return len(members) > 1 and any(m.get("role") == "voter" for m in own)


def _votes(hosts: list[dict[str, Any]]) -> list[str]:
    if any(host["voting"] for host in hosts):
        return []
    return ["no host is to vote; leave collective_voting at true on at least one"]


def _nobody(hosts: list[dict[str, Any]]) -> list[str]:
    """Find hosts none of which can take the others in."""
    if _formed(hosts) or _founders(hosts) or not any(host["voting"] for host in hosts):
        return []
    said = ["{} ({})".format(h["host"], _mode(h)) for h in hosts if _mode(h)]
    if not said:
        return []
    return [
        "no host can take the others in: {}; add one that is fresh or a member, or make one a "
        "server of its own with the playbook reset".format(", ".join(said))
    ]


def _numbers(hosts: list[dict[str, Any]]) -> list[str]:
    return [
        "{}: {} is no port; give {} a number from 1 to 65535".format(
            host["host"], host[key], variable
        )
        for host in hosts
        for key, variable in (("port", "collective_port"), ("peer_port", "collective_peer_port"))
        if not 1 <= host[key] <= 65535
    ]


def _leaderless(hosts: list[dict[str, Any]]) -> list[str]:
    formed = _formed(hosts)
    if not formed:
        return []
    if any(_mode(h) == "member" and h["collective"].get("quorum") for h in formed):
        return []
    away = sorted(
        {
            member["name"]
            for host in formed
            for member in host["collective"]["members"]
            if member.get("state") != "active"
        }
    )
    return [
        "{} in a collective that has no quorum: bring back {}".format(
            " and ".join(h["host"] for h in formed) + (" is" if len(formed) == 1 else " are"),
            ", ".join(away) or "its voters",
        )
    ]


def _names(hosts: list[dict[str, Any]]) -> list[str]:
    return [
        "{}: {} is no name of a server; give it a collective_name of letters, digits and "
        "hyphens, without a domain".format(host["host"], host["name"])
        for host in hosts
        if not _NAME.fullmatch(host["name"]) or _ELSEWHERE.fullmatch(host["name"])
    ]


def _renamed(hosts: list[dict[str, Any]]) -> list[str]:
    """Find members that are called otherwise now: they keep their names and ports."""
    found = []
    for host in hosts:
        own = host["collective"].get("name")
        if _mode(host) not in ("member", "nonvoting"):
            continue
        if own != host["name"].lower():
            found.append(
                "{}: it is {} in its collective, and collective_name is {}; {}".format(
                    host["host"], own, host["name"], _way_out(host, "its name")
                )
            )
        members = host["collective"].get("members") or []
        had = [(m.get("door_port"), m.get("peer_port")) for m in members if m["name"] == own]
        if had and None not in had[0] and had[0] != (host["port"], host["peer_port"]):
            found.append(
                "{}: it has the ports {} and {} in its collective; {}".format(
                    host["host"], *had[0], _way_out(host, "them")
                )
            )
    return found


def _way_out(host: dict[str, Any], what: str) -> str:
    if len(host["collective"].get("members") or []) > 1:
        return f"a member keeps {what} until it is removed"
    return "it is alone there, and the playbook reset makes it anew; its data is moved aside"


def _mixed(hosts: list[dict[str, Any]]) -> list[str]:
    # Two servers are in one collective when they know one etcd member in common: names may be
    # the same in two, the ids of members are not.
    groups: list[dict[str, Any]] = []
    for host in hosts:
        members = host["collective"].get("members") or []
        ids = {member["id"] for member in members if member.get("id")}
        if len(members) < 2 or not ids:
            continue
        same = [group for group in groups if group["ids"] & ids]
        groups = [group for group in groups if group not in same]
        groups.append(
            {
                "ids": ids.union(*(group["ids"] for group in same)),
                "hosts": [h for group in same for h in group["hosts"]] + [host["host"]],
                "names": sorted({m["name"] for m in members}),
            }
        )
    if len(groups) < 2:
        return []
    said = ["{} (of {})".format(", ".join(g["hosts"]), ", ".join(g["names"])) for g in groups]
    return [
        "these hosts are in different collectives: {}; take those of all but one out first, with "
        "'collective delete' on each".format("; and ".join(said))
    ]
