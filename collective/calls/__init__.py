"""Calls from software on one server to software on another, by the name of a service.

``protocol_state`` is what either end knows and says, without a socket; ``call`` and ``service``
are the two ends for threads, ``call_manager`` has all those of a handle. For asyncio:
``collective.aio``.
"""
