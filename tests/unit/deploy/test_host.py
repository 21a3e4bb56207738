"""What a host's own tools say, read."""

from __future__ import annotations

import pytest

from deploy.plugins.module_utils import host

POLICY = """etcd-server:
  Installed: {}
  Candidate: 3.5.16-4+b2
  Version table:
 *** 3.4.23-4+b4 100
        100 /var/lib/dpkg/status
"""


@pytest.mark.parametrize(
    ("said", "present", "version"),
    [
        ("3.5.16-4\n", False, "3.5.16"),
        ("1:3.4.30+dfsg-1\n", False, "3.4.30"),
        (POLICY.format("(none)"), True, "3.5.16"),
        (POLICY.format("3.4.23-4+b4"), True, "3.4.23"),
        (POLICY.format("3.4.23-4+b4"), False, "3.5.16"),
        ("3.6.1\n3.6.1\n", False, "3.6.1"),
        ("Name           : etcd\nVersion        : 3.6.4-1.2\nArch : x86_64\n", False, "3.6.4"),
        ("package etcd is not installed\n", True, ""),
        ("", False, ""),
    ],
)
def test_version_of_a_package(said: str, present: bool, version: str) -> None:
    """As dpkg-deb, apt-cache, rpm, dnf and zypper put it; of nothing else."""
    assert host.package_version(said, present) == version
