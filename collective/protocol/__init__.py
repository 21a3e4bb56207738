"""What servers say to each other and to the commands, and how it crosses a socket.

This module imports nothing: whoever needs a part imports that part.
"""
