"""Streams of shards: who reads what, in which order, going on from a bookmark; and whole runs on them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from elysium.cli.main import main
from elysium.config import DataSection, Phase
from elysium.errors import InputError, SourceError
from elysium.training import recipe, streams
from elysium.training.dealing import Deal, Group, Mixture
from elysium.training.samples import MixedSamples, SampleDataset
from elysium.training.sources import RecordClips
from elysium.training.streams import ShardClips
from process_kit import in_fresh_process
from training_kit import (
    losses,
    run_whole_and_broken,
    source,
    write_chats,
    write_config,
    write_lines,
    write_model,
    write_records,
    write_shards,
)

pytest.importorskip("datasets", reason="it is in the extra 'train'")
ASKED = DataSection(tasks={"SOT": 1.0})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model, and records of 22 clips of a track each in eleven shards of two."""
    folder = tmp_path_factory.mktemp("made")
    records = write_records(folder / "data", videos=22, things=1)
    return write_model(folder / "model"), records, write_shards(records, folder / "shards")


def opened(pattern: str, lanes: int = 1, window: int = 4) -> ShardClips:
    clips = ShardClips(pattern, 14, window)
    clips.lanes = lanes
    return clips


def shown(clips: ShardClips, lane: int, count: int, seed: int = 0, start: int = 0) -> list[str]:
    """Which clips a lane shows."""
    seen = []
    for turn in range(start, start + count):
        group = Group(turn, lane, turn)
        assert clips.turn_to(group, seed) == []
        seen.append(clips[clips.own(group, seed)][1].name)
    return seen


@pytest.mark.parametrize(("per_shard", "lanes"), [(2, 1), (2, 4), (2, 3), (100, 4), (11, 4)])
def test_the_lanes_of_an_epoch_show_every_clip_once(per_shard, lanes, made, tmp_path):
    """Also with fewer shards than lanes, or when they are not dealt out evenly; each epoch in another order."""
    pattern = made[2] if per_shard == 2 else write_shards(made[1], tmp_path / "out", per_shard)
    first, second = [], []
    for lane in range(lanes):
        clips = opened(pattern, lanes)
        names = shown(clips, lane, 60)
        epochs = {0: first, 1: second}
        for turn, name in enumerate(names):
            clips.turn_to(Group(turn, lane, turn), 0)
            epochs.get(json.loads(clips.bookmark)["epoch"], []).append((turn, name))
    for epoch in (first, second):
        assert len(epoch) == len({name for _, name in epoch}) == 22
    if lanes == 1:
        assert [name for _, name in first] != [name for _, name in second]
        assert [name for _, name in first] != shown(opened(pattern), 0, 22, seed=1)


def test_what_is_at_hand_is_what_an_index_gives(made):
    """The same pixels and labels as reading the records and images one by one."""
    indexed, clips = RecordClips(made[1], made[1].parent, 14), opened(made[2], window=22)
    clips.turn_to(Group(0), 0)
    one = {labels.objects[0].boxes_xyxyn.tobytes() + frames[np.arange(6)].tobytes() for frames, labels in
           (indexed[number] for number in range(22))}  # fmt: skip
    two = {labels.objects[0].boxes_xyxyn.tobytes() + frames[np.arange(6)].tobytes() for frames, labels in
           (clips[number] for number in range(22))}  # fmt: skip
    assert len(one) == 22 and one == two
    assert [thing.description for thing in clips.objects()] == ["the red car"] * 22


@pytest.mark.parametrize("lanes", [1, 4, 30])
def test_a_stream_goes_on_from_a_bookmark(lanes, made, monkeypatch):
    whole, clips = shown(opened(made[2], lanes), 0, 50), opened(made[2], lanes)
    shown(clips, 0, 31)
    mark = json.loads(clips.bookmark)
    assert mark["start"] <= 30 and mark["epoch"] >= 1
    read = []
    real = streams.read_shard
    monkeypatch.setattr(streams, "read_shard", lambda path: read.append(path) or real(path))
    resumed = pickle.loads(pickle.dumps(opened(made[2], lanes)))  # as a process that is spawned gets it
    read.clear()
    resumed.read_from([json.dumps({**mark, "source": 7, "start": 0}), json.dumps(mark)])
    assert shown(resumed, 0, 19, start=31) == whole[31:]
    straight = len(read)
    read.clear()
    assert shown(opened(made[2], lanes), 0, 19, start=31) == whole[31:]  # without one, from the beginning
    assert straight < len(read)
    assert shown(resumed, 0, 5) == whole[:5]  # and back, should anybody ask


def test_windows_are_mixed_and_one_at_a_time_is_held(made):
    clips = opened(made[2], window=6)
    names = shown(clips, 0, 22)
    windows = [names[at : at + 6] for at in range(0, 22, 6)]
    plain = shown(opened(made[2], window=1), 0, 22)
    assert [sorted(window) for window in windows] == [sorted(plain[at : at + 6]) for at in range(0, 22, 6)]
    assert names != plain
    starts = []
    for turn in range(22):
        clips.turn_to(Group(turn, 0, turn), 0)
        starts.append(json.loads(clips.bookmark)["start"])
        rng = np.random.default_rng(turn)
        assert starts[-1] <= clips.another(rng) < min(starts[-1] + 6, 22)
    assert starts == [0] * 6 + [6] * 6 + [12] * 6 + [18] * 4


def loaded(pattern: str, count: int, rank: int, skip: int = 0) -> list[tuple[int, str]]:
    """What the two workers of one of two processes load: the number and the name of each sample."""
    data = SampleDataset(
        opened(pattern, 4), count, 2, (Phase(until=1.0, frames=2),), ASKED, region_mark=False,
        deal=Deal(Mixture((1.0,), 0), 0, 4),
    )  # fmt: skip
    batches = BatchSamplerShard(BatchSampler(SequentialSampler(range(count)), 2, False), 2, rank)
    left = list(batches)[skip:]
    loader = DataLoader(data, batch_sampler=left, num_workers=2, collate_fn=list)
    return [(sample.index, sample.id.split("]")[0]) for batch in loader for sample in batch]


def all_loaded(pattern: str, count: int, asked: list[tuple[int, int]]) -> list[list[tuple[int, str]]]:
    return [loaded(pattern, count, rank, skip) for rank, skip in asked]


def test_two_processes_of_two_workers_each_show_every_clip_once(made):
    """As the Trainer's loader deals batches out, also after a run went on in the middle."""
    lanes, count = 4, 88
    *ranks, gone_on = in_fresh_process(all_loaded, made[2], count, [(0, 0), (1, 0), (0, 9)])
    assert not {index for index, _ in ranks[0]} & {index for index, _ in ranks[1]}
    seen = Counter(name for rank in ranks for _, name in rank)
    assert len(seen) == 22 and sum(seen.values()) == count
    for lane in range(lanes):
        names = [name.split("[")[1] for rank in ranks for index, name in rank if index // 2 % lanes == lane]
        assert names == shown(opened(made[2], lanes), lane, 22)
    # Gone on with at an odd number: the loader's processes have changed their turns.
    assert gone_on == ranks[0][18:]


def test_groups_share_a_clip_and_end_with_their_batch(made):
    asked = ASKED.model_copy(update={"group_size": 3})
    mixture = Mixture((1.0,), 0)
    data = SampleDataset(
        opened(made[2], 2), 40, 4, (Phase(until=1.0, frames=2),), asked, region_mark=False, deal=Deal(mixture, 0, 2)
    )
    names = [data[index].id for index in range(40)]
    for batch in range(10):
        a, b, c, d = names[4 * batch : 4 * batch + 4]
        assert a == b == c != d
    lane = [name.split("[")[1].split("]")[0] for batch in range(0, 10, 2) for name in names[4 * batch :: 3][:2]]
    assert lane == shown(opened(made[2], 2), 0, 10)


def test_turns_are_counted_source_by_source():
    mixture = Mixture((1.0, 2.0), 5)
    drawn = [mixture.source_of(batch) for batch in range(300)]
    assert 80 < drawn.count(0) < 120
    for source_number in (0, 1):
        deal = Deal(mixture, source_number, 4)
        for batch in [*range(300), 7, 3, 299, 4]:
            before = [b for b in range(batch % 4, batch, 4) if drawn[b] == source_number]
            assert deal(batch) == (batch % 4, len(before))


def test_shards_are_mixed_with_other_sources_by_weight(made, tmp_path):
    """A batch is of one source, and the stream goes on where its own last batch was, whatever came between."""
    mixture = Mixture((1.0, 3.0), 0)
    parts = [
        SampleDataset(clips, 80, 2, (Phase(until=1.0, frames=2),), ASKED, region_mark=False, deal=deal)
        for clips, deal in ((RecordClips(made[1], made[1].parent, 14), None), (opened(made[2]), Deal(mixture, 1, 1)))
    ]
    mixed = MixedSamples(parts, mixture)
    drawn = [mixed[index] for index in range(80)]
    assert [sample.index for sample in drawn] == list(range(80)) and len(mixed) == 80
    streamed = [sample.bookmark != "" for sample in drawn]
    assert streamed[::2] == streamed[1::2] and 50 < sum(streamed) < 70
    names = [sample.id.split("[")[1].split("]")[0] for sample in drawn if sample.bookmark]
    assert names == shown(opened(made[2]), 0, len(names))


def test_a_clip_that_cannot_be_used_is_replaced_counted_and_told(made, tmp_path):
    """Defective records, images, and a shard that is cut off; never at the beginning, where they stop a run."""
    lines = [json.loads(line) for line in made[1].read_text().splitlines()]
    folder = made[1].parent
    pattern = write_shards(write_lines(folder / "copy.jsonl", lines), tmp_path / "out")
    paths = sorted(Path(tmp_path / "out").glob("*.tar"))
    paths[5].write_bytes(paths[5].read_bytes()[:20000])
    text = paths[6].read_bytes()
    paths[6].write_bytes(text.replace(b'"box": [[0.1', b'"box": [[9.1', 1).replace(b"\x89PNG", b"no image"[:4], 1))
    clips = opened(pattern)
    data = SampleDataset(
        clips, 22, 1, (Phase(until=1.0, frames=6),), ASKED, region_mark=False, deal=Deal(Mixture((1.0,), 0), 0, 1)
    )
    samples = [data[index] for index in range(22)]
    told = [line for sample in samples for line in sample.skipped]
    assert sum("copy-00005.tar: cannot be read behind clip" in line for line in told) >= 1
    assert any("copy-00006.tar, clip 0000000" in line and "box" in line for line in told), told
    assert {sample.task.value for sample in samples} == {"SOT"}
    paths[0].write_bytes(b"")
    with pytest.raises(SourceError, match=r"copy-00000\.tar: cannot be read behind clip 0 \(empty file\)"):
        opened(pattern)


def test_a_reader_without_clips_stops_the_run(made, tmp_path):
    pattern = write_shards(made[1], tmp_path / "out", 100)
    clips = opened(pattern, lanes=40)
    with pytest.raises(InputError, match=r"reader 31 of 40 finds no clip in 100 epochs\. Make more shards"):
        clips.turn_to(Group(0, 30, 0), 0)


# Whole runs


def configuration(path, model, sources, **sections):
    return write_config(path, model={"path": model}, data={"sources": sources, **sections.pop("data", {})}, **sections)


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_a_resumed_run_equals_an_uninterrupted_one(form, made, tmp_path):
    """With a loader's process, beside another source, over more than an epoch: losses to 1e-6."""
    model, records, _ = made
    pattern = write_shards(records, tmp_path / "out", 5, form)
    chats = source(write_chats(tmp_path / "chats"), tmp_path / "chats")
    sources = [{"shards": pattern, "window": 3, "weight": 3.0}, chats]
    options = {"trainer": {"dataloader_num_workers": 2, "max_steps": 20, "save_steps": 5}}
    whole = configuration(tmp_path / "whole.yaml", model, sources, **options)
    broken = configuration(tmp_path / "broken.yaml", model, sources, **options)
    in_fresh_process(run_whole_and_broken, whole, broken, 17)
    marks = [json.loads(mark) for mark in json.loads(
        (tmp_path / "broken" / "checkpoint-15" / "bookmarks_0.json").read_text()
    )]  # fmt: skip
    assert {(mark["source"], mark["lane"]) for mark in marks} == {(0, 0), (0, 1)}
    assert all(mark["start"] > 0 for mark in marks)
    in_fresh_process(recipe.run, broken)
    assert sorted(losses(tmp_path / "whole")) == list(range(1, 21))
    for step, loss in losses(tmp_path / "whole").items():
        assert losses(tmp_path / "broken")[step] == pytest.approx(loss, rel=1e-6), step


def test_chats_in_shards_are_asked_their_own_questions(made, tmp_path, capsys):
    folder = tmp_path / "chats"
    chats = write_chats(folder, "v0/0.png")
    (folder / "v0").symlink_to(made[1].parent / "v0")
    path = configuration(tmp_path / "run.yaml", made[0], [{"shards": write_shards(chats, tmp_path / "out", 1)}])
    assert main(["train", str(path)]) == 0
    assert len(losses(tmp_path / "run")) == 4 and "skipped" not in capsys.readouterr().out
    assert opened(str(tmp_path / "out" / "*.tar")).only_chats and not opened(made[2]).only_chats


@pytest.mark.parametrize(("given", "told"), [
    ({"shards": "{made}", "images": "{folder}"}, "annotations and images go together"),
    ({"shards": "{made}", "annotations": "{records}", "images": "{folder}"}, "annotations and images, or shards"),
    ({"weight": 2.0}, "give annotations and images, or shards"),
    ({"shards": "{folder}/*.nothing"}, "data.sources: shards is"),
    ({"shards": "nowhere://*.tar"}, "Cannot look for 'nowhere://"),
])  # fmt: skip
def test_sources_that_cannot_be_are_told_first(given, told, made, tmp_path, capsys):
    places = {"made": made[2], "records": made[1], "folder": made[1].parent}
    entry = {key: value.format(**places) if isinstance(value, str) else value for key, value in given.items()}
    assert main(["train", str(configuration(tmp_path / "run.yaml", made[0], [entry]))]) == 2
    assert told in capsys.readouterr().err


def test_epochs_of_shards_are_not_counted(made, tmp_path):
    sources = [{"shards": made[2]}]
    path = configuration(tmp_path / "run.yaml", made[0], sources, trainer={"max_steps": -1, "num_train_epochs": 2})
    with pytest.raises(InputError, match=r"max_steps is missing.*records that are not in shards"):
        recipe.run(path)
    path = configuration(
        tmp_path / "other.yaml", made[0], sources, trainer={"accelerator_config": {"split_batches": True}}
    )  # fmt: skip
    with pytest.raises(InputError, match="accelerator_config deals batches out in another way"):
        recipe.run(path)
