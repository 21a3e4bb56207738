"""Everything that touches etcd: its binary, its process, its gateway, its watch, our keys in it.

This package is the only importer of etcd3gw. It decides nothing about membership: that is
``collective.policy``.
"""
