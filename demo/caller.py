"""Runs in a pod inside a site: asks the model's Service `--rate` times a second, whatever comes back.

Prints one line of JSON twice a second: totals since the first answer. A request that has no 2xx within five
seconds has failed. Standard library, NumPy and `edgepod.client`, which are in the pod image.
"""
