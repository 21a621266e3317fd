"""Which frames are drawn: properties that hold whatever the video, the seed and the number of workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from elysium.config import DataSection, Phase
from elysium.sampling import draw_frames, spread_frames
from elysium.training.samples import Sample, SampleDataset
from elysium.training.sources import AtHand, ClipLabels, ObjectLabel
from process_kit import in_fresh_process

available, count = st.integers(1, 500), st.integers(1, 32)


@given(available, count, st.booleans(), st.integers(1, 60), st.integers(0, 2**32))
def test_a_clip_has_one_interval_and_lies_in_the_video(available, count, from_start, most, seed):
    picked = draw_frames(np.random.default_rng(seed), available, count, from_start, most)
    assert len(picked) == min(count, available) and picked[0] >= 0 and picked[-1] < available
    steps = set(np.diff(picked).tolist())
    assert len(steps) <= 1 and steps <= set(range(1, most + 1))
    assert picked[0] == 0 or not from_start
    again = draw_frames(np.random.default_rng(seed), available, count, from_start, most)
    assert picked.tolist() == again.tolist()


@pytest.mark.parametrize(("available", "count", "most", "intervals"), [
    (500, 8, 60, range(1, 61)), (100, 8, 60, range(1, 15)), (9, 8, 60, range(1, 2)), (500, 2, 5, range(1, 6)),
])  # fmt: skip
def test_every_interval_and_every_start_comes_up(available, count, most, intervals):
    rng = np.random.default_rng(0)
    clips = [draw_frames(rng, available, count, False, most) for _ in range(4000)]
    assert {int(clip[1] - clip[0]) for clip in clips} == set(intervals)
    wide = [clip for clip in clips if clip[1] - clip[0] == max(intervals)]
    assert max(clip[-1] for clip in clips) == available - 1 and min(clip[0] for clip in clips) == 0
    assert max(clip[0] for clip in wide) <= available - 1 - max(intervals) * (count - 1)


@given(available, count)
def test_spread_frames_hold_the_ends_and_are_even(available, count):
    picked = spread_frames(available, count)
    assert len(picked) == min(count, available) == len(set(picked.tolist()))
    assert picked[0] == 0 and (count == 1 or picked[-1] == available - 1)
    steps = np.diff(picked)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


class Numbered(AtHand):
    """Clips whose frames are their own numbers, whose boxes tell the number of the frame, absent in every third."""

    name = "numbered"

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ClipLabels]:
        length = self.lengths[number]
        boxes = np.array([[i / 1000, 0.1, i / 1000 + 0.2, 0.5] for i in range(length)], np.float32)
        boxes[2::3] = np.nan
        label = ObjectLabel("dog", None, boxes, ("the dog",), "a dog")
        frames = np.stack([np.arange(length), np.full(length, number)], axis=1).astype(np.float32)
        return frames, ClipLabels((label,), words_at_start=False)


def dataset(lengths: list[int], seed: int, frames: int = 8, least: int | None = 2) -> SampleDataset:
    asked = DataSection(tasks={"SOT": 0.5, "RSOT": 0.5}, slip_share=0.0, box_jitter=0.0, paraphrase_share=0.5)
    phases = [Phase(until=1.0, frames=frames, min_frames=least)]
    return SampleDataset(Numbered(lengths), 40, 4, phases, asked, seed, region_mark=False)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.integers(0, 1000))
def test_frames_boxes_and_absences_stay_together(lengths, seed):
    for sample in (dataset(lengths, seed)[index] for index in range(0, 40, 3)):
        numbers = sample.features[:, 0].astype(int)
        assert len(sample.boxes) == len(numbers) <= 8
        absent = numbers % 3 == 2
        assert np.isnan(sample.boxes[:, 0]).tolist() == absent.tolist()
        np.testing.assert_allclose(sample.boxes[~absent, 0], numbers[~absent] / 1000, atol=1e-6)
        said = [part.split("[")[1].split("]")[0] for part in sample.answer.split("Frame ")[1:]]
        assert [text == "0,0,0,0" for text in said] == absent.tolist()
        assert {int(number) for number in sample.features[:, 1]} == {sample.frame_keys[0][1]}


def loaded(numbers_of_workers: tuple[int, ...]) -> list[list[Sample]]:
    samples = dataset([30, 50, 9, 70], 5)
    loaders = [DataLoader(samples, batch_size=4, num_workers=count, collate_fn=list) for count in numbers_of_workers]
    return [[sample for batch in loader for sample in batch] for loader in loaders]


def test_samples_do_not_depend_on_the_workers():
    other = dataset([30, 50, 9, 70], 6)
    for seen in in_fresh_process(loaded, (0, 1, 2)):
        for index in (39, 0, 17):  # in any order
            alone = dataset([30, 50, 9, 70], 5)[index]
            assert alone.prompt == seen[index].prompt and alone.answer == seen[index].answer
            np.testing.assert_array_equal(alone.features, seen[index].features)
        assert [other[index].answer for index in range(8)] != [sample.answer for sample in seen[:8]]


def test_the_curriculum_sets_the_number_of_frames():
    samples = dataset([200], 0, frames=32)
    counts = [len(samples[index].boxes) for index in range(40)]
    assert all(len(set(counts[start : start + 4])) == 1 for start in range(0, 40, 4))  # the same in a whole batch
    assert set(counts) <= set(range(2, 33)) and len(set(counts)) > 5
