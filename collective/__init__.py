"""Link several Confluent management servers into one collective that survives a lost server.

This module holds the version and nothing else: the ``collective`` command imports it at every
start, so it must stay cheap.
"""

__version__ = "0.1.0"
