"""`python -m greenloop`: see greenloop.cli."""

import sys

from greenloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
