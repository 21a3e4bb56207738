"""In the place of Confluent's exceptions."""


class DegradedCollective(Exception):
    """There is no quorum."""
