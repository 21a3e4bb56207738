"""The playbooks on real hosts: systemd, sshd, a network of their own (``make test-deploy``)."""
