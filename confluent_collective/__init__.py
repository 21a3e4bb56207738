"""A Confluent server on this collective: its configuration is what the members share.

It runs inside Confluent, in Confluent's interpreter (Python 3.9 to 3.13), and imports the public
API alone: ``collective`` and ``collective.errors``. Nothing imports it. docs/confluent.md is for
those who run it, DESIGN.md beside this file says how it works.
"""
