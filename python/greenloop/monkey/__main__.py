"""`python -m greenloop.monkey`: see greenloop.monkey.main."""

import sys

from greenloop.monkey import main

sys.exit(main())
