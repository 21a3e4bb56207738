"""Who may, who leads, who is there: locks, elections and assignments over the store.

All of it is keys under ``collective.model.keyspace.COORDINATION``, bound to sessions; decisions
about assignments are in ``collective.policy.assigning``.
"""
