"""The ``collective`` command. Nothing here imports anything heavy: start-up time is a feature."""
