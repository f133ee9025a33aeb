"""SITE. The agent of one site: link to the hub, journal, store, and the local pass.

It decides nothing: what to do next is `edgefleet.core.site_pass`. It never deletes because something is absent,
and everything but the link works with the hub away for weeks.
"""
