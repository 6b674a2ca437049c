"""`python -m greenloop.monkey`: see greenloop.monkey.main."""

import sys

from greenloop.monkey import main

if __name__ == "__main__":
    sys.exit(main())
