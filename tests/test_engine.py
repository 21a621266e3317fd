"""Batches: order, size, equality; devices and number types."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elysium.errors import InputError
from elysium.inference.answers import Request
from elysium.inference.devices import resolve_device, resolve_dtype, set_threads
from elysium.inference.engine import Engine
from elysium.language.prompts import Task, build_prompt, build_question
from tiny import tiny_model_and_processor


def requests(count: int) -> list[Request]:
    """RSOT over 1 to 3 frames of noise."""
    rng = np.random.default_rng(7)
    made = []
    for number in range(count):
        frames = [rng.integers(0, 255, (30, 50, 3), dtype=np.uint8) for _ in range(1 + number % 3)]
        question = build_question(Task.RSOT, expression="the red car " * (1 + number % 2))
        made.append(Request(build_prompt(Task.RSOT, len(frames), question), frames, num_boxes=len(frames)))
    return made


@pytest.fixture(scope="module")
def engines() -> list[Engine]:
    torch.set_num_threads(1)
    model, processor = tiny_model_and_processor()
    return [Engine(model.train(), processor, max_batch=size) for size in (1, 3, 8)]


def test_answers_keep_their_order_and_do_not_depend_on_the_batch(engines: list[Engine]) -> None:
    asked = requests(5)
    alone, threes, all_at_once = (engine.run(asked) for engine in engines)
    assert [len(answer.statuses) for answer in alone] == [1, 2, 3, 1, 2]
    for one, three, all_ in zip(alone, threes, all_at_once, strict=True):
        assert one.token_ids == three.token_ids == all_.token_ids
        np.testing.assert_allclose(one.box_scores, three.box_scores, rtol=1e-4)
        np.testing.assert_allclose(one.box_scores, all_.box_scores, rtol=1e-4)


def test_batches_are_bounded(engines: list[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = engines[1]._decoder.decode

    def count(batch: list[Request], *, free: bool) -> object:
        sizes.append(len(batch))
        return decode(batch, free=free)

    monkeypatch.setattr(engines[1]._decoder, "decode", count)
    assert len(engines[1].run(requests(7))) == 7
    assert sizes == [3, 3, 1]
    assert engines[1].run([]) == []


def test_the_model_is_put_in_eval_mode(engines: list[Engine]) -> None:
    assert not any(engine.model.training for engine in engines)


def test_region_marks_follow_the_configuration() -> None:
    assert not Engine(*tiny_model_and_processor()).region_marks
    assert Engine(*tiny_model_and_processor(gate="prompt")).region_marks


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 0"):
        Engine(*tiny_model_and_processor(), max_batch=0)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="0 CUDA devices"):
            resolve_device("cuda:0")
    with pytest.raises(InputError, match="cuda:99"):
        resolve_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "mps:0", "", "cuda:-1"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(InputError, match="Unknown device"):
        resolve_device(name)


def test_dtypes() -> None:
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) == torch.float32
    assert resolve_dtype("bfloat16", cpu) == torch.bfloat16
    assert resolve_dtype(torch.float16, cpu) == torch.float16
    with pytest.raises(InputError, match="int8"):
        resolve_dtype("int8", cpu)


def test_threads() -> None:
    before = torch.get_num_threads()
    set_threads(None)
    assert torch.get_num_threads() == before
    set_threads(1)
    assert torch.get_num_threads() == 1
    with pytest.raises(InputError, match="0 threads"):
        set_threads(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_answers_what_the_cpu_answers() -> None:
    asked = requests(3)
    model, processor = tiny_model_and_processor()
    on_cpu = Engine(model, processor).run(asked)
    on_gpu = Engine(model.to("cuda"), processor).run(asked)
    model.to("cpu")
    assert [a.token_ids for a in on_cpu] == [a.token_ids for a in on_gpu]
