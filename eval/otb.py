"""The published command `python eval/otb.py RESULT`: docs/published-commands.md."""

import sys

if __name__ == "__main__":
    print(
        "error: `elysium metrics`, which this will call, is not there yet; until then use the functions of "
        "`elysium.evaluation.ope` on the boxes of `elysium track --save json`.",
        file=sys.stderr,
    )
    sys.exit(2)
