"""The figures of this project, measured: ``make bench`` or ``python -m bench``, see README.md.

It is no test: nothing here asserts, a missed bar is a line of a table. What it needs of real
servers comes from ``tests.harness``.

``__main__`` has the table of measurements. One module each: ``commands`` (rows 1 and 2), ``join``
and ``pause`` (3), ``failover`` (4 to 6, with ``network`` for the partition), ``handover`` (7),
``survivor`` (8), ``memory`` (9), ``gencert`` (10), ``nonvoting`` (11), ``readdress`` (12),
``rejoin`` (13), ``offline`` (14), ``store`` and ``telling`` (15 to 25), ``deletion`` (26). Below
them: ``bare_etcds`` (with ``leaves``) and ``bare``, other sides without a daemon; ``writer`` a
stream of writes; ``sample`` the arithmetic, ``timing`` a process and how long it took, ``line`` a
connection to one etcd, ``machine`` where this ran and how busy it was, ``report`` the table.

Invariants:
  * Both sides of a comparison are measured in the same run, on the same servers or in turns.
  * Nothing is left behind, as in the harness.
"""
