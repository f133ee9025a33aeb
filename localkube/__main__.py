"""`python3 localkube …` and `python3 -m localkube …` do the same."""

import sys
from pathlib import Path

# Run by its folder, Python puts that folder first: its modules would be found without their package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from localkube.cli import main

if __name__ == "__main__":
    sys.exit(main())
