"""The kernel's network objects. Nothing outside touches pyroute2, and in here `session.py` alone."""
