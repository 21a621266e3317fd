"""The published command `python eval/otb.py RESULT`: now `elysium score RESULT --protocol published`."""

import sys

from elysium.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:], "--protocol", "published"]))
