"""LISTEN. The hub: every change of an object asks for a pass over its model or site, and passes are all there is.

A pass gathers what is there (`gather`), lets the core decide, and writes the difference. Nothing here remembers
anything that a restart could lose, and nothing here decides.
"""
