"""DECIDE. Pure functions from what was seen and the time to a decision.

Nothing in here reads a clock, a file or a socket, and nothing logs: a decision carries its reasons.
"""
