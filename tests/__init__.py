"""The tests, and the harness that they share with the sandbox."""
