"""The layout of the published training configuration, translated into ours.

There the options of transformers' Trainer stand at the top level, and what is learned from below ``data.train``. Every
key of it is in one of four tables: ``TRANSLATED``, ``COMPOSED``, ``EXPECTED`` or ``IGNORED``; any other is an error
that names it.

Knows: the names and meanings of the published keys. Does not know: files, and what the values of our own keys may be
(``config`` does).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elysium.errors import InputError

_FETCH, _PREPARE = "data.train.data_fetch", "data.train.data_preprocess"
_PATHS, _BATCHES = f"{_FETCH}.data_paths", f"{_FETCH}.batch_sizes"
_TASK, _TASK_TYPE = f"{_PREPARE}.online_vqa_processor_params.task", f"{_PREPARE}.task_type"
_SEGMENTS, _MAX_SEQ = f"{_PREPARE}.num_segments", f"{_PREPARE}.max_seq_len"
_WORKERS = f"{_FETCH}.num_workers"

OWN = ("model", "phases", "loss", "threads", "muon_lr", "trainer")  # sections of ours that may stand beside them
_SAME_NAME = (
    "bf16 fp16 num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size "
    "gradient_accumulation_steps gradient_checkpointing eval_strategy eval_steps save_strategy save_steps "
    "save_total_limit learning_rate weight_decay max_grad_norm warmup_steps lr_scheduler_type optim adam_beta1 "
    "adam_beta2 adam_epsilon logging_strategy logging_steps disable_tqdm dataloader_num_workers report_to run_name "
    "deepspeed"
).split()

# Published key: the place of its value in our schema. Of two keys for one place the later one here wins.
TRANSLATED = {
    "output_dir": "output_dir",
    "seed": "seed",
    _WORKERS: "trainer.dataloader_num_workers",
    _MAX_SEQ: "data.max_tokens",
    "evaluation_strategy": "trainer.eval_strategy",  # its name before transformers 4.46
    "warmup_ratio": "trainer.warmup_steps",  # transformers 5 takes both under this name: below 1 it is a share
    **{name: f"trainer.{name}" for name in _SAME_NAME},
}
# Published key: what is made of it, together with others.
COMPOSED = {
    _PATHS: "data.sources: annotations and images",
    _BATCHES: "data.sources: weight; their sum is trainer.per_device_train_batch_size",
    _TASK_TYPE: "data.sources: tasks",
    _TASK: "data.sources: tasks",
    _SEGMENTS: "phases: one, with so many frames",
}
TASKS = {
    "sot": "SOT", "rsot": "RSOT", "videorec": "RSOT", "videoreg": "VIDEO_REG", "rec": "REC", "reg": "REG",
    "videoqa": "VIDEO_QA",
}  # fmt: skip
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_OWN_PIXELS = "frames are prepared by the model's own processor, which for the published model means {}"
Check = Callable[[Any], bool]


def _numbers_in(value: Any) -> list[float]:
    return [float(text) for text in re.findall(r"\d+(?:\.\d+)?", str(value))]


def _one_of(*known: Any) -> Check:
    return lambda value: value in known


def _all_near(*wanted: float) -> Check:
    def near(value: Any) -> bool:
        found = _numbers_in(value)
        return len(found) == len(wanted) and all(abs(a - b) < 1e-3 for a, b in zip(found, wanted, strict=True))

    return near


# Published key: whether its value is what happens here anyway, and that in words.
EXPECTED: dict[str, tuple[Check, str]] = {
    f"{_PREPARE}.with_visual": (_one_of(True), "samples always have their frames (true)"),
    f"{_PREPARE}.frames_key": (_one_of("frames"), "records have their image paths under frames"),
    f"{_PREPARE}.label_key": (_one_of("vqa", "box"), "records have chats under vqa and tracks under box"),
    f"{_PREPARE}.vqa_processor_params.box_format": (_one_of("ours_v1"), "boxes are written as ours_v1"),
    f"{_PREPARE}.online_vqa_processor_params.box_format": (_one_of("ours_v1"), "boxes are written as ours_v1"),
    f"{_PREPARE}.sample_method": (
        _one_of("random_clip"), "frames of tracks are drawn as random_clip says, those of chats evenly"),
    f"{_PREPARE}.training": (_one_of(True), "this is training (true)"),
    f"{_PREPARE}.frames_ops.Resize.size": (
        lambda value: set(_numbers_in(value)) == {336}, _OWN_PIXELS.format("336 x 336 pixels")),
    f"{_PREPARE}.frames_ops.Normalize.mean": (_all_near(*_CLIP_MEAN), _OWN_PIXELS.format(f"CLIP's {_CLIP_MEAN}")),
    f"{_PREPARE}.frames_ops.Normalize.std": (_all_near(*_CLIP_STD), _OWN_PIXELS.format(f"CLIP's {_CLIP_STD}")),
}  # fmt: skip
# Published key: why it has no effect here.
IGNORED = {
    "tf32": "only NVIDIA GPUs have it and others refuse it; trainer: {tf32: true} switches it on",
    "data.predict": "evaluation reads it (eval/eval.py)",
    f"{_FETCH}.num_readers": "one reader holds the records of a file in memory; dataloader workers read the images",
    f"{_FETCH}.key_mapping": "records are read by the keys of the annotation format, and one without them is told",
    f"{_PREPARE}.tokenizer": "the model's folder has its tokenizer",
    f"{_PREPARE}.max_prompt_len": "prompts are not cut; a sample over max_seq_len loses frames from the end",
    f"{_PREPARE}.verbose": "log.jsonl in the output folder says what happened",
    f"{_PREPARE}.frames_ops.ToTensor": "frames are prepared by the model's own processor",
}
KNOWN = {*TRANSLATED, *COMPOSED, *EXPECTED, *IGNORED, *OWN}

_NUMBERS = ("learning_rate", "weight_decay", "warmup_ratio", "warmup_steps", "max_grad_norm", "adam_beta1",
            "adam_beta2", "adam_epsilon", "num_train_epochs")  # fmt: skip
_WHOLE = {_SEGMENTS: (1, 32), _MAX_SEQ: (16, None), _WORKERS: (0, None)}  # smallest, largest


def is_published(values: Mapping[str, Any]) -> bool:
    """Whether a configuration has the published layout."""
    data = values.get("data")
    train = data.get("train") if isinstance(data, dict) else None
    return isinstance(train, dict) and ("data_fetch" in train or "data_preprocess" in train)


def translate(values: Mapping[str, Any], where: str = "The configuration") -> dict[str, Any]:
    """The same configuration in our schema; ``where`` names it in errors.

    Raises InputError that lists every unknown key, every value that cannot be followed and every placeholder.
    """
    given = dict(_leaves(values))
    problems = [told for path, value in given.items() if (told := _problem(path, value))]
    problems += [*_path_problems(given), *_batch_problems(given), *_task_problems(given), *_model_problems(given)]
    if problems:
        raise InputError(
            f"{where}: {'; '.join(problems)}",
            "Mend these keys; docs/published-commands.md lists all. Further options of TrainingArguments go below "
            "trainer",
        )
    return _translated({path: value for path, value in given.items() if value is not None})


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that is known, or that leads to none that is, by its dotted path."""
    for key, value in values.items():
        path = f"{above}{key}"
        leads_on = any(known.startswith(f"{path}.") for known in KNOWN)
        if leads_on and isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif value is not None or not leads_on:
            yield path, value


def _problem(path: str, value: Any) -> str | None:
    """What is wrong with one key by itself."""
    if path not in KNOWN:
        leads_on = any(known.startswith(f"{path}.") for known in KNOWN)
        return f"{path} must hold keys" if leads_on else f"{path} is not a key that is known"
    if value is None or path in IGNORED:
        return None
    if told := _placeholder(path, value):
        return told
    if path in EXPECTED and not EXPECTED[path][0](value):
        return f"{path} is {value!r}, but {EXPECTED[path][1]}"
    if path in _WHOLE and not _is_whole(value, *_WHOLE[path]):
        least, most = _WHOLE[path]
        return f"{path} is {value!r}, not a whole number from {least}" + (f" to {most}" if most else "")
    if path in _NUMBERS and _number(value) is None:
        return f"{path} is {value!r}, not a number"
    if path == "warmup_ratio" and not 0 <= (_number(value) or 0) < 1:
        return f"{path} is {value!r}, not a share from 0 to below 1"
    return None


def _placeholder(path: str, value: Any) -> str | None:
    """A complaint about the first ``{PLACEHOLDER}``; YAML reads one without quotes as a mapping to nothing."""
    if isinstance(value, dict):
        if len(value) == 1 and str(key := next(iter(value))).isupper() and value[key] is None:
            return f"{path} still has the placeholder {{{key}}}, which is to be replaced"
        inner = (_placeholder(f"{path}.{key}", item) for key, item in value.items())
        return next((told for told in inner if told), None)
    found = re.search(r"\{[A-Z][A-Z0-9_ -]*\}", value) if isinstance(value, str) else None
    return f"{path} still has the placeholder {found[0]}, which is to be replaced" if found else None


def _is_whole(value: Any, least: int, most: int | None) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and value >= least and (most is None or value <= most)


def _number(value: Any) -> float | None:
    """A number, also as text: YAML reads 5e-5, without a point, as text. None for anything else."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _path_problems(given: Mapping[str, Any]) -> Iterator[str]:
    paths = given.get(_PATHS)
    if not isinstance(paths, list) or not paths:
        if not isinstance(paths, dict) or not _placeholder(_PATHS, paths):  # which is told already
            yield f"{_PATHS} must be a list of anno_path and image_folder"
        return
    for number, item in enumerate(paths):
        place, values = f"{_PATHS}.{number}", item if isinstance(item, dict) else {}
        yield from (
            f"{place}.{key} is not a key that is known" for key in values if key not in ("anno_path", "image_folder")
        )
        for key in ("anno_path", "image_folder"):
            told = _placeholder(f"{place}.{key}", values.get(key))
            if told or not isinstance(values.get(key), str):
                yield told or f"{place}.{key} must be a path"


def _batch_problems(given: Mapping[str, Any]) -> Iterator[str]:
    paths, sizes = given.get(_PATHS), given.get(_BATCHES)
    if sizes is None or not isinstance(paths, list):
        return
    if not isinstance(sizes, list) or not all(_is_whole(size, 1, None) for size in sizes):
        yield f"{_BATCHES} is {sizes!r}, not a list of whole numbers from 1"
    elif len(sizes) != len(paths):
        yield f"{_BATCHES} has {len(sizes)} entries for {len(paths)} data_paths"


def _task_problems(given: Mapping[str, Any]) -> Iterator[str]:
    task, kind = given.get(_TASK), given.get(_TASK_TYPE)
    if kind not in (None, "vqa", "online_vqa"):
        yield f"{_TASK_TYPE} is {kind!r}, but only vqa and online_vqa are known"
    if task is None and kind == "online_vqa":
        yield f"{_TASK} is missing, which {_TASK_TYPE}: online_vqa needs"
    if task is not None and _plain(task) not in TASKS:
        yield f"{_TASK} is {task!r}, but only SOT, RSOT (VideoREC), VideoREG, REC and REG are known"


def _plain(task: Any) -> str:
    return re.sub(r"[^a-z]", "", str(task).lower())


def _model_problems(given: Mapping[str, Any]) -> Iterator[str]:
    """A published configuration names no model; to train a small one instead would be a surprise."""
    model = given.get("model")
    if model is None or (isinstance(model, dict) and not any(model.get(key) for key in ("path", "compose", "preset"))):
        yield (
            "model is missing: say what is trained, as model.path=FOLDER (or nano, or a hub id), or as model.compose"
        )


def _translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Our schema from keys that have no problem."""
    result: dict[str, Any] = {
        "data": {
            "sources": _sources(given), "train_clips": 0, "val_clips": 0, "slip_share": 0.0, "box_jitter": 0.0,
        },
        "loss": {"gate": 0.0, "choice": 0.0, "votes": 0.0, "number_sigma": 0.0, "template": 1.0},  # the answers alone
        "trainer": {},
    }  # fmt: skip
    for path, place in TRANSLATED.items():
        if path in given and not (path == "warmup_steps" and not given[path] and "warmup_ratio" in given):
            section, _, key = place.rpartition(".")
            (result[section] if section else result)[key] = _value(path, given[path])
    if _BATCHES in given:
        result["trainer"]["per_device_train_batch_size"] = sum(given[_BATCHES])
    if _SEGMENTS in given:
        result["phases"] = [{"until": 1.0, "frames": given[_SEGMENTS]}]
    own = {key: given[key] for key in OWN if key in given}
    if isinstance(own.get("trainer"), dict):
        own["trainer"] = {**result["trainer"], **own["trainer"]}
    return {**result, **own}


def _value(path: str, value: Any) -> Any:
    if path.endswith("_strategy") and value is False:
        return "no"  # which YAML reads as false
    if path == "deepspeed" and isinstance(value, str) and not Path(value).exists():
        moved = Path(value).parent / "deepspeed" / Path(value).name  # where ours lie
        return str(moved) if moved.exists() else value
    return _number(value) if path in _NUMBERS else value


def _sources(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    sizes = given.get(_BATCHES) or [1] * len(given[_PATHS])
    task = TASKS[_plain(given[_TASK])] if _TASK in given else "VIDEO_QA"
    tasks = {"tasks": {task: 1.0}} if _TASK in given or _TASK_TYPE in given else {}
    return [
        {"annotations": path["anno_path"], "images": path["image_folder"], "weight": float(size), **tasks}
        for path, size in zip(given[_PATHS], sizes, strict=True)
    ]
