"""A collective of three on this machine: ``demo`` shows one, ``sandbox`` leaves one running.

Both stand on the harness of the tests, so that what a newcomer sees is what is tested.
"""
