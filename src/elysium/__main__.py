"""`python -m elysium` is the command `elysium`."""

import sys

from elysium.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
