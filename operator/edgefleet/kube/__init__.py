"""TOUCH. The only code that speaks to an API server.

Configuration and authentication come from the official client (`kubernetes.aio`), requests and answers are
plain dictionaries. It decides nothing: what to write is decided in `edgefleet.core`.
"""
