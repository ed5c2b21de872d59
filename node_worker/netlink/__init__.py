"""The kernel's network objects. Nothing outside touches pyroute2, and in here `session.py` alone.

All calls are plain ones that take milliseconds, and never work in a thread whose event loop is running.
"""
