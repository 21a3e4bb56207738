"""Where servers are: a changed address, and members that moved while they were off."""
