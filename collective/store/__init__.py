"""The store that embedding servers share, over one etcd: cached reads, group commits, watches.

``store`` is its face; see docs/embedding.md.
"""
