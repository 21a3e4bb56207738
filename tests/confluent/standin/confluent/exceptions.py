"""In the place of Confluent's exceptions."""


class DegradedCollective(Exception):
    """There is no quorum."""


class LockedCredentials(Exception):
    """A secret needs a password."""
