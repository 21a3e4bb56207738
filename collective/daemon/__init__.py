"""``collectived``: the parts of the daemon, and the class that holds them together."""
