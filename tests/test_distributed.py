"""Two processes on one machine: the same losses as one, however weights and optimizer states are shared out; batches
without pictures; stopping and going on.

Processes are started without a launcher, over gloo on the CPU; see `distributed_worker`.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from tiny import tiny_model_and_processor
from training_kit import log_lines, write_records, write_shards

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
WORKER = Path(__file__).parent / "distributed_worker.py"
PATIENCE_S = 900  # for all runs of a plan, on a machine that has other things to do
STEPS = 6
CLIPS = 8

# The prompt gate's loss `votes` has a mean over what the model predicts: no share of it is known beforehand.
NANO: dict[str, Any] = {
    "threads": 1,
    "model": {"path": "nano"},
    "data": {
        "train_clips": CLIPS, "synth": {"num_frames": 4, "max_objects": 3},
        "tasks": {"SOT": 0.4, "RSOT": 0.2, "REC": 0.2, "REG": 0.1, "VIDEO_QA": 0.1},
    },
    "phases": [{"until": 0.5, "frames": 2}, {"until": 1.0, "frames": 3}],
    "loss": {"names": 0.1, "votes": 0.0},
    "trainer": {
        "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "lr_scheduler_type": "cosine",
        "warmup_steps": 2, "logging_steps": 1, "save_steps": 100, "report_to": "none", "disable_tqdm": True,
    },
}  # fmt: skip
WRAPPED = {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer", "CLIPEncoderLayer"]}
FSDP = ["trainer.fsdp=true", "trainer.fsdp_config=" + json.dumps({**WRAPPED, "state_dict_type": "SHARDED_STATE_DICT"})]
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


@dataclass(frozen=True)
class Launched:
    """What two processes left: exit codes, what they printed, and what was seen of each run, rank by rank."""

    codes: list[int]
    printed: list[str]
    errors: list[str]
    seen: list[list[dict[str, Any]]]

    def told(self) -> str:
        """For assertions that fail."""
        return f"exit codes {self.codes}\n" + "\n".join(text[-4000:] for text in self.errors)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def launch(plan_file: Path, plan: list[dict[str, Any]]) -> Launched:
    """Run a plan on two ranks; when one fails, the other gets 20 seconds to end too."""
    plan_file.write_text(json.dumps(plan))
    common = {
        **os.environ, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    logs = [(Path(f"{plan_file}.out{r}"), Path(f"{plan_file}.err{r}")) for r in range(2)]
    processes = []
    for rank, (out, err) in enumerate(logs):
        environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with out.open("w") as stdout, err.open("w") as stderr:
            command = [sys.executable, str(WORKER), str(plan_file)]
            processes.append(subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr, cwd=ROOT))
    end = time.monotonic() + PATIENCE_S
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if any(process.poll() not in (None, 0) for process in processes):
            end = min(end, time.monotonic() + 20)
        time.sleep(0.1)
    for process in processes:
        process.kill()
    codes = [process.wait() for process in processes]
    seen = [Path(f"{plan_file}.rank{rank}.jsonl") for rank in range(2)]
    return Launched(
        codes, [out.read_text() for out, _ in logs], [err.read_text() for _, err in logs],
        [[json.loads(line) for line in file.read_text().splitlines()] if file.exists() else [] for file in seen],
    )  # fmt: skip


def logged(folder: Path) -> list[dict[str, float]]:
    return [line for line in log_lines(folder) if "loss" in line]


def furthest(folder: Path, other: Path) -> float:
    """The largest relative difference of the losses of two runs, which have the same steps, each once."""
    one, two = logged(folder), logged(other)
    assert [line["step"] for line in one] == [line["step"] for line in two] == list(range(1, len(one) + 1))
    return max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(one, two, strict=True))


def write(folder: Path, name: str, values: dict[str, Any]) -> str:
    """A configuration file whose run goes to ``folder/name``."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**values, "output_dir": str(folder / name)}))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def nano(folder) -> dict[str, Any]:
    return {**NANO, "data": {**NANO["data"], "cache_dir": str(folder / "cache")}}


@pytest.fixture(scope="module")
def mixed(folder) -> dict[str, Any]:
    """A model with the paper's gate, whose tower learns too, on chats without pictures and on pictures: micro-batches
    in turn, so that of two processes the first has text alone and the second has pictures."""
    model, processor = tiny_model_and_processor("mlp")
    model.config.selector["noise"] = 0.0  # drawn anew by each process
    model.save_pretrained(folder / "tiny")
    processor.save_pretrained(folder / "tiny")
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / f"{number}.png")
    track = {
        "id": 0, "vid": "a", "source": "made", "frames": [f"{n}.png" for n in range(4)], "frame_size": [50, 40],
        "object_class": "car", "object_description": "the red car",
        "box": [[0.1, 0.2, 0.5 + n / 9, 0.8] for n in range(4)],
    }  # fmt: skip
    chats = [
        {"id": n, "vid": f"c{n}", "frames": [], "vqa": [
            {"from": "human", "value": f"is the {colour} dog big"}, {"from": "gpt", "value": f"the small {colour} dog"},
        ]} for n, colour in enumerate(("red", "green", "blue"))
    ]  # fmt: skip
    (folder / "pictures.jsonl").write_text(json.dumps(track) + "\n")
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    sources = [{"annotations": str(folder / f"{name}.jsonl"), "images": str(folder)} for name in ("chats", "pictures")]

    def drawn(seed: int) -> list[int]:
        return [int(np.random.default_rng((seed, 3, n)).choice(2, p=[0.5, 0.5])) for n in range(6)]

    return {
        "threads": 1, "seed": next(seed for seed in count() if drawn(seed) == [0, 1] * 3),
        "model": {
            "path": str(folder / "tiny"),
            "learns": ["vision.tower.encoder.layers.0", "selector", "projector", "language_model"],
        },
        "data": {"train_clips": 0, "val_clips": 0, "tasks": {"SOT": 1.0}, "sources": sources, "max_interval": 1},
        "phases": [{"until": 1.0, "frames": 2}],
        "trainer": {**NANO["trainer"], "max_steps": 3},
    }  # fmt: skip


@pytest.fixture(scope="module")
def together(folder, nano, mixed) -> Launched:
    """Runs that need nothing but PyTorch; the last one fails."""
    strict = "trainer.ddp_find_unused_parameters=false"
    return launch(folder / "plain.json", [
        {"config": write(folder, "ddp", nano)},
        {"config": write(folder, "mixed-ddp", mixed), "overrides": [strict]},
        {"config": write(folder, "mixed-fsdp", mixed), "overrides": FSDP, "tricks": ["fsdp_on_cpu"]},
        {"config": write(folder, "untouched", mixed), "overrides": [strict], "tricks": ["no_touch"]},
    ])  # fmt: skip


@pytest.fixture(scope="module")
def zero(folder, nano, mixed, together) -> Launched:
    """Runs under DeepSpeed."""

    def run(name: str, values: dict[str, Any], stage: int) -> dict[str, Any]:
        asked = f"trainer.deepspeed={CONFIGS / 'deepspeed' / f'zero{stage}.json'}"
        return {"config": write(folder, name, values), "overrides": [asked], "tricks": ["no_compiler"]}

    return launch(folder / "zero.json", [
        run("zero1", nano, 1), run("zero2", nano, 2), run("mixed-zero2", mixed, 2), run("mixed-zero3", mixed, 3),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def alone(folder, nano, mixed, together) -> Path:
    """The same runs in one process, the batches of two processes one after the other; and one in which parts of the
    model that a step does not use get a gradient of zero, as they do where optimizer states are shared out."""
    from elysium.training import recipe
    from elysium.training.trainer import ElysiumTrainer

    twice = ["trainer.gradient_accumulation_steps=2"]
    recipe.run(write(folder, "alone", nano), twice)
    recipe.run(write(folder, "mixed-alone", mixed), twice)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ElysiumTrainer, "_finds_unused", lambda self: False)
        recipe.run(write(folder, "alone-zeros", nano), twice)
    return folder


def test_two_processes_have_the_losses_of_one(together, alone):
    assert [run["kind"] for run in together.seen[0][:1]] == ["MULTI_CPU"], together.told()
    assert len(logged(alone / "ddp")) == STEPS and furthest(alone / "ddp", alone / "alone") < 1e-5
    one, two = (load_file(alone / name / "final" / "model.safetensors") for name in ("alone", "ddp"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert weight.shape == two[name].shape
        np.testing.assert_allclose(weight.float(), two[name].float(), rtol=2e-3, atol=1e-4, err_msg=name)


def test_one_process_renders_writes_and_prints(together, folder):
    assert [seen[0]["rendered"] for seen in together.seen] == [CLIPS, 0], together.told()
    assert together.printed[0].count("'train_loss'") == 3
    assert "loss" not in together.printed[1]
    written = {path.name for path in (folder / "ddp").iterdir()}
    assert written == {"final", "log.jsonl", "run_config.json", f"checkpoint-{STEPS}"}


@pytest.mark.parametrize("name", ["mixed-ddp", "mixed-fsdp"])
def test_a_process_with_text_alone_keeps_up_with_one_that_has_pictures(name, together, alone):
    number = ["ddp", "mixed-ddp", "mixed-fsdp"].index(name)
    assert [len(seen) for seen in together.seen] == [3, 3], together.told()
    first, second = (seen[number] for seen in together.seen)
    assert (first["pictures"], second["pictures"]) == ([False] * 3, [True] * 3)
    assert first["learned"] and second["learned"] and first["kind"] == ("FSDP" if "fsdp" in name else "MULTI_CPU")
    assert (first["weights"] == second["weights"]) == (name == "mixed-ddp")  # under FSDP each has its own part
    assert furthest(alone / name, alone / "mixed-alone") < 1e-5


def test_it_would_not_without_touching_the_tower(together, folder):
    assert all(code != 0 for code in together.codes)  # gloo may notice before PyTorch does
    told = "".join(together.errors)
    assert "Expected to have finished reduction" in told or "collective mismatch" in told, together.told()
    assert not (folder / "untouched" / "final").exists()


@needs_deepspeed
@pytest.mark.parametrize("stage", [1, 2])
def test_zero_has_the_losses_of_one_process(stage, zero, alone):
    assert zero.codes == [0, 0], zero.told()
    first, second = (seen[stage - 1] for seen in zero.seen)
    assert first["kind"] == second["kind"] == "DEEPSPEED" and first["weights"] == second["weights"]
    assert furthest(alone / f"zero{stage}", alone / "alone-zeros") < 1e-5
    assert furthest(alone / f"zero{stage}", alone / "alone") < 0.02  # AdamW goes on where a step asks nothing
    one, two = (load_file(alone / name / "final" / "model.safetensors") for name in ("alone-zeros", f"zero{stage}"))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    assert {value.dtype for value in two.values()} == {value.dtype for value in one.values()}


@needs_deepspeed
@pytest.mark.parametrize("stage", [2, 3])
def test_text_alone_under_zero(stage, zero, alone):
    assert zero.codes == [0, 0], zero.told()
    first, second = (seen[stage] for seen in zero.seen)
    assert (first["pictures"], second["pictures"]) == ([False] * 3, [True] * 3)
    assert first["weights"] == second["weights"] and (stage == 3 or first["learned"])  # under ZeRO-3, both have none
    assert furthest(alone / f"mixed-zero{stage}", alone / "mixed-alone") < 1e-5


@pytest.mark.parametrize("name", ["mixed-fsdp", pytest.param("mixed-zero3", marks=needs_deepspeed)])
def test_what_was_in_pieces_is_saved_whole(name, alone, request):
    if "zero" in name:
        request.getfixturevalue("zero")
    one, two = (load_file(alone / run / "final" / "model.safetensors") for run in ("mixed-alone", name))
    assert one.keys() == two.keys()
    for key, weight in one.items():
        np.testing.assert_allclose(weight.float(), two[key].float(), rtol=2e-3, atol=2e-4, err_msg=key)


def test_a_signal_to_one_process_stops_both_and_they_go_on(folder, nano, mixed, together):
    """Also where each of them, and of its loader's processes, reads other shards."""
    plan = {"config": write(folder, "stopped", nano), "overrides": ["trainer.save_steps=3"]}
    out = folder / "stopped"
    shards = write_shards(write_records(folder / "records", videos=22, things=1), folder / "shards")
    streamed = {
        **mixed, "data": {**mixed["data"], "sources": [{"shards": shards, "window": 3}]},
        "trainer": {**mixed["trainer"], "max_steps": STEPS, "dataloader_num_workers": 2},
    }  # fmt: skip
    whole, broken = ({"config": write(folder, name, streamed)} for name in ("streamed", "stopped-stream"))
    stopped = launch(
        folder / "stop.json", [whole, {**broken, "tricks": ["stop_rank_1"]}, {**plan, "tricks": ["stop_rank_1"]}]
    )
    assert stopped.codes == [130, 130], stopped.told()
    assert {path.name for path in out.iterdir()} == {"checkpoint-3", "checkpoint-4", "log.jsonl", "run_config.json"}
    for checkpoint in ("checkpoint-3", "checkpoint-4"):
        held = {path.name for path in (out / checkpoint).iterdir()}
        assert held >= {"model.safetensors", "optimizer.pt", "rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"}
    assert stopped.printed[0].count("stopped after step 4") == 2 and "stopped after" not in stopped.printed[1]
    assert (folder / "stopped-stream" / "checkpoint-4" / "bookmarks_1.json").is_file()
    resumed = launch(folder / "resume.json", [broken, plan])
    assert resumed.codes == [0, 0], resumed.told()
    assert resumed.printed[0].count("resuming from") == 2 and "resuming" not in resumed.printed[1]
    assert [[len(run["pictures"]) for run in seen] for seen in resumed.seen] == [[STEPS - 4] * 2] * 2
    assert furthest(out, folder / "ddp") < 1e-6 and furthest(folder / "stopped-stream", folder / "streamed") < 1e-6


def test_the_files_for_gpus_are_read_as_they_are_meant(tmp_path):
    from accelerate.commands.config import load_config_from_file
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    for stage in (1, 2, 3):
        path = CONFIGS / "deepspeed" / f"zero{stage}.json"
        if find_spec("deepspeed") is not None:
            read = HfTrainerDeepSpeedConfig(str(path))
            assert (read.is_zero2(), read.is_zero3(), read.is_offload()) == (stage == 2, stage == 3, False)
        values = json.loads(path.read_text())
        assert values["zero_optimization"]["stage"] == stage and values["train_micro_batch_size_per_gpu"] == "auto"
    assert load_config_from_file(str(CONFIGS / "accelerate" / "ddp.yaml")).distributed_type == "MULTI_GPU"
    fsdp = load_config_from_file(str(CONFIGS / "accelerate" / "fsdp2.yaml"))
    assert fsdp.distributed_type == "FSDP" and math.isclose(fsdp.fsdp_config["fsdp_version"], 2)
    assert fsdp.fsdp_config["fsdp_state_dict_type"] == "SHARDED_STATE_DICT"
