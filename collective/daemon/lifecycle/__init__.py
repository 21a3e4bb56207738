"""Which life this server leads, how one ends, and what is looked at before the next begins."""
