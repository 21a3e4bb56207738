"""The values that everything else talks about: names, tokens, records, what was observed.

Nothing in this package opens a file or a socket. A value that exists is valid.
"""
