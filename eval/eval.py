"""The published command `deepspeed eval/eval.py --config F --task SOT|RSOT`: now `elysium eval`.

F is YAML: options of `elysium eval` as keys (`annotations`, `images`, `model`, `output`, ...). As in the published one,
the annotations may also stand under `data.predict.data_fetch.data_paths`. See docs/published-commands.md.
"""

import argparse
import sys
from pathlib import Path

import yaml

from elysium.cli.main import main


def option(key: str, value: object) -> list[str]:
    """One key as arguments; true and false as the two forms of a switch."""
    if isinstance(value, bool):
        return [f"--{key}" if value else f"--no-{key}"]
    return [] if value is None else [f"--{key}", str(value)]


def options(path: str) -> list[str]:
    """The configuration as arguments."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        paths = values.pop("data", {}).get("predict", {}).get("data_fetch", {}).get("data_paths")
        if paths:
            values.setdefault("annotations", paths[0] if isinstance(paths, list) else paths)
        return [part for key, value in values.items() for part in option(key.replace("_", "-"), value)]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        print(f"error: {path} cannot be read as options: {error}. Write it as key: value.", file=sys.stderr)
        sys.exit(2)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True)
parser.add_argument("--task", required=True)
parser.add_argument("--local_rank", "--local-rank", help="set by the launcher, which sets LOCAL_RANK as well")
if __name__ == "__main__":
    given = parser.parse_args()
    sys.exit(main(["eval", given.task, "--protocol", "published", *options(given.config)]))
