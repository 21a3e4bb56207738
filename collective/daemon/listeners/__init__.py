"""The doors of the daemon: what comes in, from whom, and which part answers."""
