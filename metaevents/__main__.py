"""Run the command line: `python -m metaevents` does what the console script `metaevents` does."""

import sys

from metaevents.cli import main

if __name__ == "__main__":
    sys.exit(main())
