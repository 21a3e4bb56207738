"""Members without an etcd of their own, and what voters do for them."""
