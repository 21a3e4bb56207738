"""The figures of this project, measured: ``make bench`` or ``python -m bench``, see README.md.

It is no test: nothing here asserts, a missed bar is a line of a table. What it needs of real
servers comes from ``tests.harness``.

``__main__`` has the table of measurements. One module each: ``commands`` (rows 1 and 2), ``join``
(3), ``failover`` (4 to 6, with ``network`` for the partition), ``handover`` (7), ``survivor`` (8),
``memory`` (9). Below them: ``sample`` the arithmetic, ``timing`` a process and how long it took,
``line`` a connection to one etcd, ``machine`` where this ran and how busy it was, ``report`` the
table.

Invariants:
  * Both sides of a comparison are measured in the same run, on the same servers.
  * Nothing is left behind, as in the harness.
"""
