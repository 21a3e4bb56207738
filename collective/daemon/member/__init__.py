"""One life of this server as a member: its etcd, the records, and which of the others answer."""
