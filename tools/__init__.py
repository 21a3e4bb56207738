"""What the makers of this package use; it is not installed."""
