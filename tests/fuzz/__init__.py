"""Hostile input for a real daemon's network door: made by hypothesis, sent, and judged.

``inputs`` makes it, ``target`` sends and judges, ``crowd`` makes crowds of connections.
``python -m tests.fuzz --minutes N`` runs longer than a test may. hypothesis rather than atheris:
what parses here is mostly Python's own C code, where coverage does not guide, and a finding comes
out small.
"""
