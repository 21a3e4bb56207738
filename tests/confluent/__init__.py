"""Confluent on a collective: on a stand-in of the seam, and on the real sources where they are."""
