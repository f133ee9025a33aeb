"""The Open Inference Protocol v2 in bytes: tensors, requests, answers, and the lz4 frames of compressed outputs.

Knows neither HTTP nor models. Everything that arrives is checked before it is believed: a size that is declared
is compared with the bytes that are there, and never allocated on trust.
"""
