"""The published training configuration: what becomes of each of its keys, and a short run from our own file in it."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from elysium.cli.main import main
from elysium.config import TrainConfig
from elysium.config_files import load_stages
from elysium.config_published import COMPOSED, EXPECTED, IGNORED, KNOWN, OWN, TRANSLATED, is_published, translate
from elysium.errors import InputError

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "configs" / "sample_config.yaml"
PATHS, BATCHES = "data.train.data_fetch.data_paths", "data.train.data_fetch.batch_sizes"
# Every key of the layout, in our own values.
FULL = """
output_dir: {folder}/out
seed: 3
bf16: true
tf32: true
num_train_epochs: 2
max_steps: 7
per_device_train_batch_size: 9
per_device_eval_batch_size: 5
gradient_accumulation_steps: 2
evaluation_strategy: no
save_strategy: steps
save_steps: 11
save_total_limit: 1
learning_rate: 3e-4
weight_decay: 0.
warmup_ratio: 0.04
lr_scheduler_type: cosine
logging_steps: 6
gradient_checkpointing: false
dataloader_num_workers: 1
report_to: none
run_name: trial
deepspeed: {folder}/zero.json
data:
  train:
    data_fetch:
      data_paths:
      - {{anno_path: {folder}/a.jsonl, image_folder: {folder}}}
      - {{anno_path: {folder}/b.jsonl, image_folder: {folder}/b}}
      batch_sizes: [3, 1]
      num_workers: 4
      num_readers: [2]
      key_mapping: {{frames: frames}}
    data_preprocess:
      with_visual: true
      frames_key: frames
      label_key: vqa
      task_type: online_vqa
      tokenizer: {{PATH_TO_A_TOKENIZER}}
      max_seq_len: 1500
      max_prompt_len: 700
      vqa_processor_params: {{box_format: ours_v1}}
      online_vqa_processor_params: {{task: VideoREC}}
      sample_method: random_clip
      num_segments: 6
      verbose: false
      training: true
      frames_ops:
        Resize: {{size: [336, 336]}}
        ToTensor: {{}}
        Normalize: {{mean: [0.4815, 0.4578, 0.4082], std: [0.2686, 0.2613, 0.2758]}}
  predict: {{data_fetch: {{data_paths: {{PATHS_TO_TEST}}}}, anything: 1}}
model: {{path: nano}}
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A file with every key, and what it names."""
    (tmp_path / "b").mkdir()
    for name in ("a.jsonl", "b.jsonl", "zero.json"):
        (tmp_path / name).touch()
    path = tmp_path / "full.yaml"
    path.write_text(FULL.format(folder=tmp_path))
    return path


def small(**changes: Any) -> dict[str, Any]:
    """A short configuration; ``changes`` are keys with ``__`` for dots, and ``fetch`` and ``prepare`` for short."""
    fetch = {"data_paths": [{"anno_path": "a.jsonl", "image_folder": "."}]}
    values: dict[str, Any] = {"data": {"train": {"data_fetch": fetch}}, "output_dir": "o", "model": {"path": "nano"}}
    for key, value in changes.items():
        short = {"fetch": "data_fetch", "prepare": "data_preprocess"}
        *above, last = (short.get(name, name) for name in key.split("__"))
        place = values
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return values


def refused(**changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        translate(small(**changes), "f.yaml")
    assert caught.value.message.startswith("f.yaml: ")
    return caught.value.message.removeprefix("f.yaml: ")


def test_every_key_of_the_layout_arrives(full: Path) -> None:
    (config,) = load_stages(full)
    folder = full.parent
    assert config.output_dir == folder / "out" and config.seed == 3 and str(config.model.path) == "nano"
    one, two = config.data.sources
    assert (one.annotations, one.images, one.weight, one.tasks) == (folder / "a.jsonl", folder, 3, {"RSOT": 1})
    assert (two.annotations, two.images, two.weight, two.tasks) == (folder / "b.jsonl", folder / "b", 1, {"RSOT": 1})
    assert (config.data.train_clips, config.data.val_clips, config.data.max_tokens) == (0, 0, 1500)
    assert [(phase.until, phase.frames) for phase in config.phases] == [(1.0, 6)]
    assert config.trainer == {
        "bf16": True, "num_train_epochs": 2, "max_steps": 7, "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 5, "gradient_accumulation_steps": 2, "eval_strategy": "no",
        "save_strategy": "steps", "save_steps": 11, "save_total_limit": 1, "learning_rate": 3e-4, "weight_decay": 0.0,
        "warmup_steps": 0.04, "lr_scheduler_type": "cosine", "logging_steps": 6, "gradient_checkpointing": False,
        "dataloader_num_workers": 1, "report_to": "none", "run_name": "trial",
        "deepspeed": str(folder / "zero.json"),
    }  # fmt: skip


def test_the_trainer_knows_what_its_keys_become() -> None:
    from transformers import TrainingArguments

    names = {place.removeprefix("trainer.") for place in TRANSLATED.values() if place.startswith("trainer.")}
    assert not names - set(TrainingArguments.__dataclass_fields__)
    assert set(OWN) <= set(TrainConfig.model_fields)


def test_a_share_of_warm_up_is_one(tmp_path: Path) -> None:
    from elysium.training.recipe import training_arguments

    trainer = translate(small(warmup_ratio=0.1, max_steps=40, bf16=True, tf32=True, report_to="none"))["trainer"]
    arguments = training_arguments(
        TrainConfig.model_validate({**translate(small()), "output_dir": tmp_path, "trainer": trainer})
    )
    assert arguments.get_warmup_steps(40) == 4
    assert translate(small(warmup_ratio=0.1, warmup_steps=0))["trainer"] == {"warmup_steps": 0.1}
    assert translate(small(warmup_ratio=0.1, warmup_steps=30))["trainer"] == {"warmup_steps": 30}


def test_a_short_file_leaves_the_rest_to_our_defaults() -> None:
    config = TrainConfig.model_validate(translate(small(per_device_train_batch_size=2, learning_rate=None)))
    (source,) = config.data.sources
    assert (source.weight, source.tasks, config.data.max_tokens, config.seed) == (1, None, None, 0)
    assert config.phases == TrainConfig.model_fields["phases"].default
    assert config.trainer == {"per_device_train_batch_size": 2}
    assert translate(small(data__train__fetch__num_workers=3))["trainer"] == {"dataloader_num_workers": 3}
    assert translate(small(data__train__prepare=None)) == translate(small())


@pytest.mark.parametrize(("said", "task"), [
    ("SOT", "SOT"), ("RSOT", "RSOT"), ("VideoREC", "RSOT"), ("VideoREG", "VIDEO_REG"), ("REC", "REC"), ("REG", "REG"),
    ("video-reg", "VIDEO_REG"),
])  # fmt: skip
def test_online_tasks_are_ours(said: str, task: str) -> None:
    params = {"online_vqa_processor_params": {"task": said, "box_format": "ours_v1"}, "task_type": "vqa"}
    assert translate(small(data__train__prepare=params))["data"]["sources"][0]["tasks"] == {task: 1.0}


def test_without_an_online_task_records_are_chats() -> None:
    tasks = translate(small(data__train__prepare__task_type="vqa"))["data"]["sources"][0]["tasks"]
    assert tasks == {"VIDEO_QA": 1.0}


def test_our_own_sections_win() -> None:
    own = {
        "phases": [{"until": 1.0, "frames": 3}], "loss": {"gate": 2.0}, "threads": 1, "muon_lr": 0.01,
        "trainer": {"max_steps": 4, "tf32": True},
    }  # fmt: skip
    result = translate({**small(data__train__prepare__num_segments=8, max_steps=9, bf16=True), **own})
    assert result["phases"] == own["phases"] and result["loss"] == {"gate": 2.0} and result["model"] == {"path": "nano"}
    assert (result["threads"], result["muon_lr"]) == (1, 0.01)
    assert result["trainer"] == {"bf16": True, "max_steps": 4, "tf32": True}


def test_what_yaml_reads_otherwise_is_put_right() -> None:
    values = yaml.safe_load("{evaluation_strategy: no, save_strategy: off, learning_rate: 5e-5, weight_decay: 1e-2}")
    assert translate({**small(), **values})["trainer"] == {
        "eval_strategy": "no", "save_strategy": "no", "learning_rate": 5e-5, "weight_decay": 0.01,
    }  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), [
    ({"data__train__fetch__readers": 1}, "data.train.data_fetch.readers is not a key that is known"),
    ({"data__train__prepare__frames_ops": {"Flip": {"p": 1}}},
     "data.train.data_preprocess.frames_ops.Flip is not a key that is known"),
    ({"data__valid": 1}, "data.valid is not a key that is known"),
    ({"bf_16": True}, "bf_16 is not a key that is known"),
    ({"data__train__prepare": 3}, "data.train.data_preprocess must hold keys"),
    ({"data__train__fetch__data_paths": [{"anno_path": "a", "image_folder": "b", "weight": 1}]},
     "data.train.data_fetch.data_paths.0.weight is not a key that is known"),
    ({"data__train__fetch__data_paths": [{"anno_path": "a"}]},
     "data.train.data_fetch.data_paths.0.image_folder must be a path"),
    ({"data__train__fetch__data_paths": "a.jsonl"},
     "data.train.data_fetch.data_paths must be a list of anno_path and image_folder"),
    ({"data__train__fetch__batch_sizes": [1, 2]}, "data.train.data_fetch.batch_sizes has 2 entries for 1 data_paths"),
    ({"data__train__fetch__batch_sizes": [0]},
     "data.train.data_fetch.batch_sizes is [0], not a list of whole numbers from 1"),
    ({"data__train__prepare__num_segments": 33},
     "data.train.data_preprocess.num_segments is 33, not a whole number from 1 to 32"),
    ({"data__train__prepare__task_type": "caption"},
     "data.train.data_preprocess.task_type is 'caption', but only vqa and online_vqa are known"),
    ({"data__train__prepare__task_type": "online_vqa"}, "data.train.data_preprocess.online_vqa_processor_params.task "
     "is missing, which data.train.data_preprocess.task_type: online_vqa needs"),
    ({"data__train__prepare__online_vqa_processor_params": {"task": "MOT"}},
     "data.train.data_preprocess.online_vqa_processor_params.task is 'MOT', but only SOT, RSOT (VideoREC), VideoREG, "
     "REC and REG are known"),
    ({"learning_rate": "fast"}, "learning_rate is 'fast', not a number"),
    ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5, not a share from 0 to below 1"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], told: str) -> None:
    assert refused(**changes) == told


@pytest.mark.parametrize(("key", "value"), [
    ("frames_key", "images"), ("label_key", "caption"), ("with_visual", False), ("training", False),
    ("sample_method", "all"), ("vqa_processor_params", {"box_format": "shikra"}),
    ("frames_ops", {"Resize": {"size": 224}}), ("frames_ops", {"Resize": {"size": [336, 448]}}),
    ("frames_ops", {"Normalize": {"mean": [0.5, 0.5, 0.5]}}),
    ("frames_ops", {"Normalize": {"std": [0.229, 0.224, 0.225]}}),
])  # fmt: skip
def test_a_value_that_means_something_else_here_is_refused(key: str, value: Any) -> None:
    told = refused(**{f"data__train__prepare__{key}": value})
    path, _, reason = told.partition(" is ")
    assert path.startswith(f"data.train.data_preprocess.{key}") and reason.endswith(EXPECTED[path][1])


def test_every_problem_is_told_at_once() -> None:
    assert refused(wrong=1, learning_rate="fast", data__train__prepare__frames_key="x").count("; ") == 2


def test_placeholders_are_to_be_replaced() -> None:
    text = (
        "output_dir: {OUTPUT}\nmodel: {path: {PATH_TO_MODEL}}\ndeepspeed: '{ROOT}/zero.json'\ndata: {train: "
        "{data_fetch: {data_paths: [{anno_path: {PATH_TO_ANNO_FILE}, image_folder: {PATH_TO_IMAGES}}]}}}"
    )
    with pytest.raises(InputError) as caught:
        translate(yaml.safe_load(text), "f.yaml")
    assert caught.value.message == "f.yaml: " + "; ".join(
        f"{path} still has the placeholder {{{name}}}, which is to be replaced" for path, name in (
            ("output_dir", "OUTPUT"), ("model.path", "PATH_TO_MODEL"), ("deepspeed", "ROOT"),
            (f"{PATHS}.0.anno_path", "PATH_TO_ANNO_FILE"), (f"{PATHS}.0.image_folder", "PATH_TO_IMAGES"),
        )
    )  # fmt: skip
    whole = f"{PATHS} still has the placeholder {{PATHS}}, which is to be replaced"
    assert refused(data__train__fetch__data_paths={"PATHS": None}) == whole


@pytest.mark.parametrize("model", [None, {}, {"learns": ["projector"]}, {"path": None}])
def test_no_model_is_not_silently_a_small_one(model: Any) -> None:
    assert refused(model=model).startswith("model is missing: say what is trained, as model.path=FOLDER")
    assert "model" in translate(small(model={"compose": {"vision": "v", "language": "l"}}))


def test_only_the_published_layout_is_taken_for_it() -> None:
    assert is_published(small()) and is_published({"data": {"train": {"data_preprocess": None}}})
    for values in ({}, {"data": None}, {"data": {"train": 3}}, {"data": {"train": {}}}, {"data": {"sources": []}}):
        assert not is_published(values)
    for name in ("nano", "smoke"):
        assert not is_published(yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()))


def test_a_missing_file_is_told_before_anything_loads(full: Path) -> None:
    with pytest.raises(InputError, match=r"data\.sources: annotations is nowhere\.jsonl, which does not exist"):
        load_stages(full, [f"{PATHS}.1.anno_path=nowhere.jsonl"])
    with pytest.raises(InputError, match=r"trainer\.deepspeed is configs/zero9\.json, which does not exist"):
        load_stages(full, ["deepspeed=./configs/zero9.json"])


def test_the_published_place_of_deepspeed_files_is_found(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (config,) = load_stages(full, ["deepspeed=./configs/zero2.json"])
    assert config.trainer["deepspeed"] == "configs/deepspeed/zero2.json"
    assert not config.loss.selects and config.loss.number_sigma == 0  # the published loss


def test_the_documentation_lists_every_key_once() -> None:
    text = (ROOT / "docs" / "published-commands.md").read_text(encoding="utf-8")
    listed = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", text.partition("## The keys")[2], re.M)))
    short = [path.removeprefix("data.train.data_fetch.").removeprefix("data.train.data_preprocess.") for path in KNOWN]
    assert sorted(listed) == sorted({*short} - {*OWN})
    assert not [path for path in KNOWN if sum(path in table for table in (TRANSLATED, COMPOSED, EXPECTED, IGNORED)) > 1]


@pytest.fixture
def records(tmp_path: Path) -> list[str]:
    """Overrides that name two records of four frames of noise, a folder for the output, and a short run of nano."""
    noise = np.random.default_rng(0)
    lines = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        frames = [f"{name}/{number}.png" for number in range(4)]
        for frame in frames:
            Image.fromarray(noise.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / frame)
        boxes = [[0.1 + 0.05 * number, 0.2, 0.4 + 0.05 * number, 0.7] for number in range(4)]
        lines.append(json.dumps({
            "source": "noise", "id": name, "vid": name, "metadata": {}, "frames": frames, "object_class": "dog",
            "box": boxes, "object_description": "the red dog", "frame_size": [64, 48],
        }))  # fmt: skip
    (tmp_path / "tracks.jsonl").write_text("\n".join(lines) + "\n")
    return [
        f"{PATHS}.0.anno_path={tmp_path / 'tracks.jsonl'}", f"{PATHS}.0.image_folder={tmp_path}",
        f"output_dir={tmp_path / 'out'}", "max_steps=2", "model.path=nano",
    ]  # fmt: skip


def shim(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs training/train.py here and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["training/train.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "training" / "train.py"), run_name="__main__")
    return int(ended.value.code or 0)


def test_both_commands_say_what_the_sample_lacks(
    records: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(SAMPLE)]) == 2
    told = capsys.readouterr().err
    assert "{ANNOTATIONS}" in told and "{IMAGES}" in told and "model is missing" in told and told.count("\n") == 1
    assert shim(monkeypatch, "--local_rank=0", "--config", str(SAMPLE)) == 2
    assert capsys.readouterr().err == told
    assert shim(monkeypatch, records[0], "--config", str(SAMPLE), *records[1:-1]) == 2
    told = capsys.readouterr().err
    assert "model is missing" in told and "placeholder" not in told


def test_the_sample_trains_offline_on_a_cpu(
    records: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    further = ["logging_steps=1", f"{BATCHES}=[2]", "tf32=true", "gradient_checkpointing=true", "threads=1"]
    assert shim(monkeypatch, "--config", str(SAMPLE), *records, *further) == 0
    final = tmp_path / "out" / "final"
    assert capsys.readouterr().out.splitlines()[-1] == str(final)
    told = json.loads((final / "training.json").read_text())
    assert told["trainer"]["per_device_train_batch_size"] == 2 and told["phases"][0]["frames"] == 4
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert main(["train", str(SAMPLE), *records, *further]) == 0  # goes on from the end: nothing is left to do
    assert capsys.readouterr().out.splitlines()[-1] == str(final)
