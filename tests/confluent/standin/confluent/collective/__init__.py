"""In the place of a package of Confluent."""
