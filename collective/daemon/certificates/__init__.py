"""This server's certificate, and whom its doors let in by theirs: made, taken up, replaced, revoked."""
