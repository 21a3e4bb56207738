"""Attacks on real daemons and real etcd by servers that are, or were, of the collective."""
