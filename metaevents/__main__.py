"""`python -m metaevents` is the console script `metaevents`."""

import sys

from metaevents.cli import main

if __name__ == "__main__":
    sys.exit(main())
