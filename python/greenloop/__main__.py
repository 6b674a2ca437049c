"""`python -m greenloop`: see greenloop.cli."""

import sys

from greenloop.cli import main

sys.exit(main())
