"""Several videos at once: the same boxes, shared batches, failures and Ctrl-C; batches that fit."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from elysium.errors import InputError, ModelError
from elysium.inference.answers import Answer, Request
from elysium.inference.engine import Engine
from elysium.inference.pipelines import Elysium
from elysium.inference.together import Together
from scripted import ScriptedEngine, boxes_at, numbered_frames
from tiny import tiny_model_and_processor


def videos(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (length, 40, 60, 3), dtype=np.uint8) for length in lengths]


def test_videos_at_once_get_the_boxes_they_get_alone() -> None:
    torch.set_num_threads(1)
    model = Elysium(*tiny_model_and_processor(), max_batch=8)
    batches: list[int] = []
    decode = model.engine._decoder.decode  # type: ignore[attr-defined]
    model.engine._decoder.decode = lambda batch, free: (batches.append(len(batch)), decode(batch, free=free))[1]  # type: ignore[attr-defined]
    clips, options = videos([9, 3, 6, 1, 8]), {"boxes": [[5, 5, 30, 30]], "expression": "a dog", "clip_length": 3}
    alone = [model.track(clip, **options) for clip in clips]
    in_all = sum(batches)
    batches.clear()
    together = Together(model.engine, 3)
    shared = model.with_engine(together)
    found = dict(together.map(lambda number: shared.track(clips[number], **options), range(len(clips))))
    assert sum(batches) == in_all and max(batches) > 2
    for number, result in enumerate(alone):
        for one, other in zip(found[number].tracks, result.tracks, strict=True):
            np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, equal_nan=True)
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)
            assert one.states.tolist() == other.states.tolist()


def test_a_question_that_fails_fails_alone() -> None:
    class Picky(ScriptedEngine):
        def run(self, requests: Any, *, free: bool = False) -> list[Answer]:
            if any(request.query == "bad" for request in requests):
                raise ModelError("no")
            return super().run(requests, free=free)

    together = Together(Picky(boxes_at()), 4)

    def ask(words: str) -> str:
        try:
            together.run([Request("", numbered_frames(1), query=words)])
        except ModelError as error:
            return str(error)
        return "fine"

    assert dict(together.map(ask, ["a", "bad", "b", "c"])) == {"a": "fine", "bad": "no", "b": "fine", "c": "fine"}


def test_an_exception_ends_the_work_on_the_others() -> None:
    together, stopped = Together(ScriptedEngine(boxes_at()), 2), threading.Event()

    def work(name: str) -> None:
        if name == "wrong":
            raise InputError("wrong")
        try:
            while True:
                together.run([Request("", numbered_frames(1))])
        except KeyboardInterrupt:
            stopped.set()
            raise

    with pytest.raises(InputError, match="wrong"):
        list(together.map(work, ["endless", "wrong"]))
    assert stopped.is_set()


def test_ctrl_c_while_the_model_works_leaves_nobody_waiting() -> None:
    class Interrupted(ScriptedEngine):
        def run(self, requests: Any, *, free: bool = False) -> list[Answer]:
            raise KeyboardInterrupt

    together = Together(Interrupted(boxes_at()), 3)
    with pytest.raises(KeyboardInterrupt):
        list(together.map(lambda _: together.run([Request("", numbered_frames(1))]), range(5)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("video")]


def test_free_questions_are_not_mixed_with_others() -> None:
    engine = ScriptedEngine(boxes_at())
    together = Together(engine, 4)
    list(together.map(lambda n: together.run([Request("", numbered_frames(1))], free=bool(n % 2)), range(4)))
    assert set(engine.free) == {False, True} and sum(engine.batches) == 4
    for free in (False, True):
        assert sum(size for size, one in zip(engine.batches, engine.free, strict=True) if one is free) == 2


def requests(counts: list[int]) -> list[Request]:
    return [Request("USER: " + "<image>" * count, numbered_frames(count), num_boxes=count) for count in counts]


def fake_engine(monkeypatch: pytest.MonkeyPatch, fits: int, **options: Any) -> tuple[Engine, list[int]]:
    """An engine whose device has room for so many requests."""
    model, processor = tiny_model_and_processor()
    engine, sizes = Engine(model, processor, **options), []

    def decode(batch: list[Request], *, free: bool) -> list[Answer]:
        sizes.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Answer(str(len(request.frames)), ()) for request in batch]

    monkeypatch.setattr(engine._decoder, "decode", decode)
    return engine, sizes


def test_what_does_not_fit_is_halved_and_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sizes = fake_engine(monkeypatch, fits=2, max_batch=8)
    answers = engine.run(requests([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert [answer.text for answer in answers] == list("123456789")
    assert sizes == [8, 4, 2, 2, 2, 2, 1] and engine.max_batch == 2
    engine, _ = fake_engine(monkeypatch, fits=0)
    with pytest.raises(ModelError, match="One clip does not fit"):
        engine.run(requests([1, 1]))


def test_batches_keep_to_a_budget_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [Engine(*tiny_model_and_processor())._tokens(request) for request in requests([1, 4])]
    engine, sizes = fake_engine(monkeypatch, fits=99, max_batch=8, max_tokens=4 * tokens[0])
    engine.run(requests([1] * 9))
    assert sizes == [4, 4, 1]
    sizes.clear()
    assert 2 * tokens[0] < tokens[1] < 4 * tokens[0]
    engine.run(requests([1, 4, 1, 1]))  # padding counts: a long one makes all of its batch long
    assert sizes == [1, 1, 2]
    engine.max_tokens = 1
    sizes.clear()
    engine.run(requests([4, 4]))
    assert sizes == [1, 1]
