"""The published training command, `deepspeed training/train.py --config F`: now `elysium train F`."""

import argparse
import sys

from elysium.cli.main import main

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True)
parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values in place of the file's")
parser.add_argument("--local_rank", "--local-rank", help="set by the launcher, which sets LOCAL_RANK as well")
if __name__ == "__main__":
    given = parser.parse_intermixed_args()
    sys.exit(main(["train", given.config, *given.overrides]))
