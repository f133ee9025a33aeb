"""`python3 localkube …` and `python3 -m localkube …` do the same."""

import sys
from pathlib import Path

# Run by its folder, Python puts that folder first: its modules would be found without their package.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from localkube.cli import main  # noqa: E402  (the line above is what finds it)

if __name__ == "__main__":
    sys.exit(main())
