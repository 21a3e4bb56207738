"""This server's certificate and the CA: made, renewed, replaced, revoked."""
