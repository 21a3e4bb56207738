"""A server comes in: both sides of a join, and the invitations before it."""
