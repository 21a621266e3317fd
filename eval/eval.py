"""The published command `deepspeed eval/eval.py --config F --task SOT|RSOT`: docs/published-commands.md."""

import sys

if __name__ == "__main__":
    print(
        "error: `elysium eval`, which this will call, is not there yet; until then track one video at a time "
        "with `elysium track VIDEO --box A,B,C,D` (SOT) or `elysium track VIDEO EXPRESSION` (RSOT).",
        file=sys.stderr,
    )
    sys.exit(2)
