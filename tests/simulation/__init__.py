"""Several servers, their etcd and their clock in one process, with every step in our hand.

The product's own functions run here: ``begin_removal``, ``finish``, ``Duties``, ``sponsor``,
``learner``, ``Store``, the door's routes, and all of ``policy``. Simulated is what they stand on:
etcd (``keyspace``), its gateway and the calls between servers (``node``), time, and power
(``world``). Each command or duty is an actor (``actors``) that is held at every call it makes,
so that others go on meanwhile, or that its server dies there.

``promises`` watches every write and every change of etcd's members; ``history`` is the state
machine that makes up histories, ``bugs`` the table of bugs that it must find.
"""
