"""Several servers, their etcd and their clock in one process, with every step in our hand.

The product's own functions run here: ``begin_removal``, ``demote``, ``promote``, ``finish``,
``Reconciler``, ``sponsor``, ``learner``, the talk of the joiner, ``TrustRound``, ``turn``,
``replace_certificate``, ``AddressChange``, ``ReturnCheck``, ``Store``, the door's routes, and all
of ``policy``. Simulated is what they stand on: etcd and its members (``keyspace``), its process
with the trust and revocation list files that the product writes (``etcd``), its gateway and the
calls between servers (``runtime``), certificates on the disk (``certificates``), the machine
(``machine``), network and time (``world``), locks and pools (``standins``). There is no TLS: a
door, and an etcd, lets in whose certificate it would. Each command or duty is an actor
(``actors``) that is held at every call it makes, so that others go on meanwhile, or that its
server dies there.

``promises`` watches every write and every change of etcd's members; ``history`` is the state
machine that makes up histories, ``bugs`` the table of bugs that it must find.
"""
