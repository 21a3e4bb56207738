"""This server's certificate, made and replaced, and whom its doors let in by theirs."""
