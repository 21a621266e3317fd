"""One process of a distributed training run, for the tests: several runs one after the other in one process group.

``python distributed_worker.py PLAN.json`` with the environment that a launcher sets. A plan is a list of runs, each
``{"config", "overrides", "tricks"}``; the tricks are the functions named ``trick_*`` below. What is seen of each run is
appended, as a line of JSON, to ``PLAN.rank<r>.jsonl``. The exit code is that of the last run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

RANK = int(os.environ["RANK"])


def main(plan: Path) -> int:
    from unittest import mock

    from elysium.cli.main import main as elysium

    code = 0
    for run in json.loads(plan.read_text()):
        seen: dict[str, Any] = {"rendered": 0, "pictures": []}
        with contextlib.ExitStack() as stack:
            for trick in ("watch", *run.get("tricks", ())):
                for target, name, new in globals()[f"trick_{trick}"](seen):
                    stack.enter_context(mock.patch.object(target, name, new))
            code = elysium(["train", run["config"], *run.get("overrides", ())])
        seen["code"] = code
        with Path(f"{plan}.rank{RANK}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")
    return code


def trick_watch(seen: dict[str, Any]):
    """Counts rendered clips, notes which batches have pictures, and the weights at the end."""
    from elysium.data.synth import ClipGenerator
    from elysium.training import recipe
    from elysium.training.trainer import ElysiumTrainer

    generate, loss, train = ClipGenerator.generate, ElysiumTrainer.compute_loss, recipe.train

    def counted(self, *args, **kwargs):
        seen["rendered"] += 1
        return generate(self, *args, **kwargs)

    def noted(self, model, inputs, *args, **kwargs):
        seen["pictures"].append("pixel_values" in inputs or "vision_features" in inputs)
        return loss(self, model, inputs, *args, **kwargs)

    def trained(trainer, *args, **kwargs):
        seen["kind"] = trainer.accelerator.distributed_type.value
        before = digest(trainer.model)
        train(trainer, *args, **kwargs)
        seen["learned"], seen["weights"] = before != digest(trainer.model), digest(trainer.model)

    return [(ClipGenerator, "generate", counted), (ElysiumTrainer, "compute_loss", noted), (recipe, "train", trained)]


def digest(model) -> str:
    """What a process holds of the weights, in short."""
    summed = hashlib.sha256()
    for parameter in model.parameters():
        local = parameter.detach().to_local() if hasattr(parameter, "to_local") else parameter.detach()
        summed.update(local.cpu().float().contiguous().numpy().tobytes())
    return summed.hexdigest()


def trick_stop_rank_1(seen: dict[str, Any]):
    """Rank 1 gets a SIGTERM in the middle of its fourth step."""
    from elysium.training.trainer import ElysiumTrainer

    honest, calls = ElysiumTrainer.compute_loss, []

    def signals(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4 and RANK == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, *args, **kwargs)

    return [(ElysiumTrainer, "compute_loss", signals)]


def trick_no_touch(seen: dict[str, Any]):
    """A batch without pictures leaves the tower alone."""
    from elysium.model import ElysiumForConditionalGeneration

    return [(ElysiumForConditionalGeneration, "_touch", lambda self: (0.0, None))]


def trick_no_compiler(seen: dict[str, Any]):
    """DeepSpeed does without a collective in shared memory, for inference, that it would compile for a minute."""
    backend = importlib.import_module("deepspeed.comm.torch")

    return [(backend, "build_shm_op", lambda: None)]


def trick_fsdp_on_cpu(seen: dict[str, Any]):
    """accelerate turns FSDP on for accelerators alone; so tell it that this is one."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    honest = AcceleratorState.__init__

    def state(self, *args, fsdp_plugin=None, **kwargs):
        honest(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    return [(AcceleratorState, "__init__", state)]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
