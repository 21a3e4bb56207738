"""What each command does in the daemon: one module a command, with a function ``run``."""
