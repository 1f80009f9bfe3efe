"""Run the command line: `python -m baselines` and the console script `metaevents-baselines`."""

import sys


def main() -> int:
    """Run one command, and let an interrupt end the program quietly while it is being loaded.

    Returns:
        The exit status; see `metaevents.cli.base`.
    """
    try:
        from baselines.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
