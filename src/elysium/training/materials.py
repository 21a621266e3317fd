"""What a run learns from: rendered clips, records, and the samples drawn from both.

Knows: which caches a configuration asks for, how sources are mixed. Does not know: how clips look, what is in a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
from transformers import TrainingArguments

from elysium.config import DataSection, Phase, SourceSection, TrainConfig
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.errors import InputError
from elysium.model import ElysiumProcessor
from elysium.training.dealing import Deal, Mixture
from elysium.training.features import Encode, FeatureCache, render_cache
from elysium.training.samples import MixedSamples, Sample, SampleDataset
from elysium.training.sources import Clips, ObjectLabel, RecordClips
from elysium.training.streams import ShardClips

Split = Literal["train", "val"]
VAL_SAMPLES = 640
_VAL_SEED = 977
_VAL_BATCH = 16


@dataclass(frozen=True)
class Materials:
    """Rendered clips to train and to validate on, single pictures, and records with their share of the batches."""

    train: FeatureCache | None
    val: FeatureCache | None
    stills: FeatureCache | None
    records: tuple[RecordClips | ShardClips, ...] = field(default=())

    def things(self) -> Iterator[ObjectLabel]:
        """Every object to train on."""
        for cache in (self.train, self.stills):
            if cache is not None:
                yield from cache.all_objects()
        for source in self.records:
            yield from source.objects()

    def check_frames(self, expected: tuple[int, ...]) -> None:
        """Raises InputError if a cache holds frames of another shape, as one made for another tower does."""
        for cache in (self.train, self.val, self.stills):
            if cache is not None and (found := cache[0][0].shape[1:]) != expected:
                raise InputError(
                    f"{cache.folder} holds frames of shape {found}, made for another model: this one needs {expected}",
                    "Name another data.cache_dir",
                )

    def num_clips(self) -> int:
        """How many clips and chats there are to train on, without those of shards: nobody knows before they are
        read."""
        at_hand = (clips for clips in (self.train, self.stills, *self.records) if not isinstance(clips, ShardClips))
        return sum(len(clips) for clips in at_hand if clips is not None)

    def read_from(self, bookmarks: Iterable[str]) -> None:
        """Read shards on from where an earlier run was, see :mod:`elysium.training.streams`."""
        marks = list(bookmarks)
        for clips in self.records:
            if isinstance(clips, ShardClips):
                clips.read_from(marks)


def read_sources(data: DataSection, size_px: int) -> tuple[RecordClips | ShardClips, ...]:
    """The records of every source, to be shown ``size_px`` wide and high."""
    return tuple(_read_source(source, size_px, number) for number, source in enumerate(data.sources))


def _read_source(source: SourceSection, size_px: int, number: int) -> RecordClips | ShardClips:
    if source.shards is not None:
        return ShardClips(source.shards, size_px, source.window, number)
    assert source.annotations is not None and source.images is not None  # the configuration has made sure
    return RecordClips(source.annotations, source.images, size_px)


def gather(
    config: TrainConfig, records: tuple[RecordClips | ShardClips, ...], size_px: int, encode: Encode, validates: bool
) -> Materials:
    """Render the clips that are missing, frames ``size_px`` wide and high, and put them beside the records.

    Training and validation clips share no photo and, where a kind has enough, no cut-out.
    """
    cv2.setNumThreads(0)
    data = config.data

    def cache(name: str, split: Split, clips: int, seed: int, synth: dict[str, Any]) -> FeatureCache:
        def generator() -> ClipGenerator:
            return clip_generator(data, split, seed, {"size_px": size_px, **synth})

        about = {"split": split, "seed": seed, "size_px": size_px, "synth": synth, "assets": str(data.assets)}
        return render_cache(data.cache_dir / name, clips, generator, encode, about)

    stills = {**data.synth, "num_frames": 1, **data.still_synth}
    return Materials(
        cache("train", "train", data.train_clips, data.seed, data.synth) if data.uses_synth else None,
        cache("val", "val", data.val_clips, data.seed + 1, data.synth) if validates and data.val_clips else None,
        cache("stills", "train", data.still_clips, data.seed + 2, stills) if data.still_clips else None,
        records,
    )


def clip_generator(data: DataSection, split: Split, seed: int, synth: dict[str, Any]) -> ClipGenerator:
    """The generator of a split."""
    library = AssetLibrary.from_folder(data.assets, split, cache=data.cache_dir / f"assets-{split}.npz")
    return ClipGenerator(SynthConfig(**synth), library, seed=seed)


def training_samples(
    config: TrainConfig, materials: Materials, arguments: TrainingArguments, processor: ElysiumProcessor,
    fits: Callable[[Sample], bool],
) -> SampleDataset | MixedSamples:  # fmt: skip
    """The training samples in the curriculum's order, as many as ``arguments.max_steps`` take on all processes."""
    micro = arguments.per_device_train_batch_size
    count = arguments.max_steps * micro * arguments.gradient_accumulation_steps * arguments.world_size
    lanes = arguments.world_size * max(1, arguments.dataloader_num_workers)
    shared = [] if materials.train is None else [config.data.synth_weight]
    mixture = Mixture((*shared, *(source.weight for source in config.data.sources)), config.seed)

    def samples(
        number: int, clips: Clips, asked: DataSection, stills: FeatureCache | None = None, frames: int | None = None
    ) -> SampleDataset:
        phases = config.phases if frames is None else (Phase(until=1.0, frames=frames),)
        deal = None
        if isinstance(clips, ShardClips):
            clips.lanes, deal = lanes, Deal(mixture, number, lanes)
        return SampleDataset(
            clips, count, micro, phases, asked, config.seed, stills, bool(processor.num_region_tokens),
            processor.published, fits, deal,
        )  # fmt: skip

    parts = [] if materials.train is None else [samples(0, materials.train, config.data, materials.stills)]
    for source, clips in zip(config.data.sources, materials.records, strict=True):
        tasks = source.tasks or ({"VIDEO_QA": 1.0} if clips.only_chats else config.data.tasks)
        asked = config.data.model_copy(update={"tasks": tasks})
        parts.append(samples(len(parts), clips, asked, frames=source.frames))
    return parts[0] if len(parts) == 1 else MixedSamples(parts, mixture)


def validation_sets(config: TrainConfig, cache: FeatureCache | None, region_mark: bool) -> dict[str, SampleDataset]:
    """Fixed samples of each box task on validation clips, with the evaluation questions and exact boxes.

    Every box that the model hears of its answer is misplaced: hearing the right ones would flatter it.
    """
    if cache is None:
        return {}
    fixed = {"paraphrase_share": 0.0, "box_jitter": 0.0, "slip_share": 1.0, "group_size": 1}
    return {
        task: SampleDataset(
            cache, VAL_SAMPLES // 4, _VAL_BATCH, config.phases[-1:],
            config.data.model_copy(update={**fixed, "tasks": {task: 1.0}}), _VAL_SEED, region_mark=region_mark,
        )
        for task in ("SOT", "RSOT", "REC")
    }  # fmt: skip
