"""Run the command line: `python -m baselines`."""

from __future__ import annotations

import sys

from baselines.cli import main

sys.exit(main())
