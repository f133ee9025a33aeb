"""`python -m edgepod`."""

from edgepod.main import main

main()
