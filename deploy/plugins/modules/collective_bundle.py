#!/usr/bin/python
# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Refuse a bundle of which a file is not as it was made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_bundle
short_description: Refuse a bundle of which a file is not as it was made
version_added: 0.1.0
description:
  - Compares each file of a bundle with the SHA-256 that its C(SHA256SUMS) has for it. Fails with
    one sentence for each that differs, is missing, or is not listed.
  - It changes nothing.
options:
  path:
    description: The bundle, or the folder that it was unpacked in.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: There is no change to show.
author:
  - The Confluent collective developers (@xcat2)
"""

EXAMPLES = r"""
- name: Each file of the bundle is as it was made
  confluent.collective.collective_bundle:
    path: dist/confluent-collective-bundle-0.1.0.tar.gz
  delegate_to: localhost
"""

RETURN = r"""
problems:
  description: What differs, one sentence for each file.
  returned: when something does
  type: list
  elements: str
"""

import os  # noqa: E402
import tarfile  # noqa: E402

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible_collections.confluent.collective.plugins.module_utils import (  # noqa: E402
    pins,
)


def main():
    """Compare, and tell."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}}, supports_check_mode=True
    )
    path = module.params["path"]
    try:
        found = pins.problems(path)
    except pins.PinError as error:
        module.fail_json(msg=f"{path} is not used: {error}")
    except (OSError, EOFError, tarfile.TarError) as error:
        module.fail_json(msg=f"{path} is not used, it cannot be read: {error}")
    if found:
        module.fail_json(
            msg=f"{path} is not used: {'; '.join(found)}; {_hint(path)}", problems=found
        )
    module.exit_json(changed=False)


def _hint(path):
    if os.path.isdir(path):
        return "move that folder away, and run this again"
    return "make it anew with 'make bundle', or bring it again from where it was made"


if __name__ == "__main__":
    main()
