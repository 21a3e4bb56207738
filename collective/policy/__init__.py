"""The decisions: pure functions over what was observed once. No input, no output, no clock."""
