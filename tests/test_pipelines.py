"""`Elysium`: loading, checks before the model runs, tracking end to end with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from elysium.errors import InputError, ModelError, SourceError
from elysium.inference.answers import Answer
from elysium.inference.pipelines import Elysium
from elysium.inference.tracker import Interrupted
from elysium.video import open_source
from scripted import ScriptedEngine, boxes_at, frame_numbers, numbered_frames
from tiny import tiny_model_and_processor


@pytest.fixture(scope="module")
def tiny() -> Elysium:
    torch.set_num_threads(1)
    return Elysium(*tiny_model_and_processor(), name="tiny")


@pytest.fixture
def scripted(tiny: Elysium) -> Elysium:
    """An Elysium whose engine always says 10,20,30,40."""
    elysium = Elysium(tiny.model, tiny.processor, name="tiny")
    elysium.engine = ScriptedEngine(boxes_at())  # type: ignore[assignment]
    return elysium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by save_pretrained."""
    path = tmp_path_factory.mktemp("model")
    model, processor = tiny_model_and_processor()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def altered(folder: Path, tmp_path: Path, change: Any) -> Path:
    """A copy of the folder whose weights `change(dict)` has altered."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 40, 60, 3), dtype=np.uint8)


def test_a_saved_model_answers_as_before(tiny: Elysium, folder: Path) -> None:
    loaded = Elysium.from_pretrained(folder, device="cpu", threads=1)
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert not loaded.model.training
    before = tiny.track(noise(4), "the red car", [5, 5, 30, 30])
    after = loaded.track(noise(4), "the red car", [5, 5, 30, 30])
    for old, new in zip(before.tracks, after.tracks, strict=True):
        np.testing.assert_array_equal(old.boxes_xyxy, new.boxes_xyxy)
        np.testing.assert_allclose(old.scores, new.scores, rtol=1e-5)
    assert after.model == str(folder)


def test_dtype_is_obeyed(folder: Path) -> None:
    loaded = Elysium.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert loaded.model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert len(loaded.track(noise(2), "the red car").tracks[0]) == 2


def test_as_many_tokens_as_configured_change_nothing(tiny: Elysium, folder: Path) -> None:
    same = Elysium.from_pretrained(folder, device="cpu", tokens_per_frame=5).track(noise(4), "the red car")
    before = tiny.track(noise(4), "the red car")
    np.testing.assert_array_equal(same.tracks[0].boxes_xyxy, before.tracks[0].boxes_xyxy)
    np.testing.assert_allclose(same.tracks[0].scores, before.tracks[0].scores, rtol=1e-5)


@pytest.mark.parametrize("kept", [1, 3, 16])
@pytest.mark.parametrize("reference", [False, True])
def test_the_model_sees_as_many_tokens_of_each_frame_as_were_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kept: int, reference: bool
) -> None:
    model = Elysium.from_pretrained(folder, device="cpu", tokens_per_frame=kept, reference=reference)
    selected, select = [], model.model.select_tokens

    def spy(*given: Any) -> Any:
        embeddings, selection = select(*given)
        selected.append(tuple(selection.indices.shape))
        return embeddings, selection

    monkeypatch.setattr(model.model, "select_tokens", spy)
    assert len(model.track(noise(4), "the red car").tracks[0]) == 4
    assert selected == [(4, kept)]
    ids = model.processor.encode_prompt("Frame 1: <image>, Frame 2: <image>")
    assert ids.count(model.model.config.image_token_id) == 2 * kept


def test_other_numbers_of_tokens_are_saved_with_the_model(folder: Path, tmp_path: Path) -> None:
    model = Elysium.from_pretrained(folder, device="cpu", tokens_per_frame=3)
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    again = Elysium.from_pretrained(tmp_path, device="cpu")
    assert again.model.selector.config.num_tokens == again.processor.num_image_tokens == 3


@pytest.mark.parametrize("kept", [0, 17])
def test_tokens_that_a_frame_does_not_have_are_refused(folder: Path, kept: int) -> None:
    told = f"cannot keep {kept} visual tokens of a frame: its vision tower gives 16. Give 1 to 16; it is made for 5."
    with pytest.raises(InputError, match=told):
        Elysium.from_pretrained(folder, device="cpu", tokens_per_frame=kept)


def test_tracks_have_ids_from_1_boxes_first(scripted: Elysium) -> None:
    frames = np.stack(numbered_frames(3))
    result = scripted.track(frames, ["a dog", "a cat"], [[0, 0, 20, 20], [20, 20, 40, 40]])
    assert [(t.id, t.expression, t.initial_box is None) for t in result.tracks] == [
        (1, None, False), (2, None, False), (3, "a dog", True), (4, "a cat", True),
    ]  # fmt: skip
    assert result.num_frames == 3
    assert result.resolution_wh == (200, 100)
    assert result.tracks[2].boxes_xyxy.tolist() == [[20, 20, 60, 40]] * 3


@pytest.mark.parametrize(
    ("box", "box_format"),
    [([20, 20, 60, 40], "xyxy"), ([20, 20, 40, 20], "xywh"), ([0.1, 0.2, 0.3, 0.4], "xyxyn"),
     ([10, 20, 30, 40], "percent")],
)  # fmt: skip
def test_box_formats(scripted: Elysium, box: list[float], box_format: str) -> None:
    result = scripted.track(numbered_frames(2), boxes=box, box_format=box_format)
    np.testing.assert_allclose(result.tracks[0].initial_box, [20, 20, 60, 40])
    np.testing.assert_allclose(result.tracks[0].boxes_xyxy[0], [20, 20, 60, 40])


def test_a_box_partly_outside_is_clipped_with_a_note(scripted: Elysium) -> None:
    (track,) = scripted.track(numbered_frames(2), boxes=[150, 50, 250, 80]).tracks
    assert track.boxes_xyxy[0].tolist() == [150, 50, 200, 80]
    assert "clipped" in track.notes[0]


def test_frames_can_be_chosen(scripted: Elysium) -> None:
    result = scripted.track(numbered_frames(30), "a dog", start_s=0.2, stride=3, max_frames=4)
    assert result.tracks[0].indices.tolist() == [5, 8, 11, 14]
    source = open_source(numbered_frames(30), stride=10)
    assert scripted.track(source, "a dog").tracks[0].indices.tolist() == [0, 10, 20]


def test_defaults_come_from_the_model(scripted: Elysium) -> None:
    scripted.tracking = {"clip_length": 3, "search_window": 2.0, "min_score": 0.95}
    (track,) = scripted.track(numbered_frames(3), boxes=[20, 20, 60, 40]).tracks
    assert [len(request.frames) for request in scripted.engine.requests] == [3]  # type: ignore[attr-defined]
    assert scripted.engine.requests[0].frames[0].shape == (58, 58, 3)  # type: ignore[attr-defined]
    assert track.states.tolist() == ["tracked", "carried", "carried"]
    (track,) = scripted.track(
        numbered_frames(3), boxes=[20, 20, 60, 40], clip_length=2, search_window=None, min_score=0.5
    ).tracks
    assert [r.frames[0].shape for r in scripted.engine.requests[1:]] == [(100, 200, 3)] * 2  # type: ignore[attr-defined]
    assert track.states.tolist() == ["tracked"] * 3


def test_unknown_words_get_one_line_for_each_expression(scripted: Elysium) -> None:
    assert scripted.track(numbered_frames(2), "a quokka").warnings == ()
    scripted.tracking = {"known_words": ["the", "a", "red", "dog", "left", "on"]}
    result = scripted.track(numbered_frames(2), ["The Red dog, on the left", "a red quokka's quokka"])
    assert len(result.warnings) == 1
    assert "quokka, s" in result.warnings[0]
    assert "tiny never saw" in result.warnings[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to follow"),
        ({"boxes": []}, "nothing to follow"),
        ({"expression": []}, "nothing to follow"),
        ({"expression": "  "}, "expression is empty"),
        ({"expression": ["a dog", ""]}, "expression is empty"),
        ({"boxes": [1, 2, 3]}, "4 numbers"),
        ({"boxes": [1, 2, float("nan"), 4]}, "not finite"),
        ({"boxes": [10, 10, 10, 20]}, "no width"),
        ({"boxes": [30, 10, 10, 20]}, "wrong way round"),
        ({"boxes": [500, 10, 600, 20]}, "outside the frame"),
        ({"boxes": [1, 2, 3, 4], "box_format": "cxcywh"}, "Unknown box format"),
        ({"expression": "a dog", "stride": 0}, "stride"),
        ({"expression": "a dog", "max_frames": -1}, "max-frames"),
        ({"expression": "a dog", "clip_length": 1}, "clip length"),
        ({"expression": "a dog", "search_window": 0.0}, "search window"),
        ({"expression": "a dog", "search_window": "far"}, "search window"),
        ({"expression": "a dog", "min_score": 1.5}, "min_score"),
        ({"expression": "a <image> dog"}, "<image>"),
    ],
    ids=str,
)
def test_senseless_input_is_refused_before_the_model_runs(
    scripted: Elysium, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        scripted.track(numbered_frames(2), **options)
    assert scripted.engine.requests == []  # type: ignore[attr-defined]


def test_sources_that_cannot_be_read(scripted: Elysium, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        scripted.track(tmp_path / "none.mp4", "a dog")
    with pytest.raises(SourceError):
        scripted.track(numbered_frames(2), "a dog", start_s=100.0)


def test_ctrl_c_comes_through(scripted: Elysium) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        scripted.track(numbered_frames(20), "a dog", progress=stop)
    assert caught.value.result.num_frames == 8


def test_describe(tiny: Elysium) -> None:
    image = noise(1)[0]
    text = tiny.describe(noise(3), [5, 5, 30, 30])
    assert isinstance(text, str)
    assert tiny.describe([image], [5, 5, 30, 30]) == tiny.describe(image, [5, 5, 30, 30])
    with pytest.raises(InputError, match="one can be described"):
        tiny.describe(image, [[5, 5, 30, 30], [1, 1, 5, 5]])
    with pytest.raises(InputError, match="outside"):
        tiny.describe(image, [500, 5, 600, 30])


def test_describe_asks_about_the_box(scripted: Elysium, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted.engine
    scripted.describe(numbered_frames(12), [20, 20, 60, 40])
    scripted.describe(numbered_frames(12), [20, 20, 60, 40], max_frames=1)
    video, image = engine.requests  # type: ignore[attr-defined]
    assert len(video.frames) == 8
    assert "This is a video showing an object with coordinates [10,20,30,40] in Frame 1." in video.prompt
    assert "short description of the object with coordinates [10,20,30,40]." in image.prompt
    assert video.num_boxes is None
    assert video.regions == image.regions == [(0, (0.1, 0.2, 0.3, 0.4))]


def test_places_in_a_window_are_not_told(scripted: Elysium, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.tracking = {"describe_window": 2.0, "places": ["on the left", "at the top"]}
    said = Answer("a red car on the left.", (), None, np.zeros(0), ())
    monkeypatch.setattr(scripted.engine, "run", lambda requests: [said])
    assert scripted.describe(numbered_frames(3), [20, 20, 60, 40]) == "a red car."
    assert scripted.describe(numbered_frames(3), [20, 20, 60, 40], search_window=None) == "a red car on the left."
    assert scripted.describe(numbered_frames(3), [20, 5, 180, 95]) == "a red car on the left."  # all of the frame


def test_describe_looks_around_the_box(scripted: Elysium) -> None:
    scripted.tracking = {"describe_window": 2.0}
    scripted.describe(numbered_frames(3), [20, 20, 60, 40])
    scripted.describe(numbered_frames(3), [20, 20, 60, 40], search_window=None)
    near, whole = scripted.engine.requests  # type: ignore[attr-defined]
    # 2 sqrt(40 20) = 56.6 around (40, 30), grown to whole pixels: 11, 1 to 69, 59
    assert [frame.shape for frame in near.frames] == [(58, 58, 3)] * 3
    assert "coordinates [16,33,84,67] in Frame 1." in near.prompt and near.regions == [(0, (0.16, 0.33, 0.84, 0.67))]
    assert whole.frames[0].shape == (100, 200, 3) and "coordinates [10,20,30,40] in Frame 1." in whole.prompt
    with pytest.raises(InputError, match="cannot hold the object"):
        scripted.describe(numbered_frames(3), [20, 20, 60, 40], search_window=0.5)


def test_ask_shows_frames_of_the_whole_video_and_the_question(scripted: Elysium, tiny: Elysium) -> None:
    scripted.ask(numbered_frames(46), " What color is the car? ")
    scripted.ask(numbered_frames(3), "What color is the car?", num_frames=2)
    scripted.tracking["ask_frames"] = 4
    scripted.ask(numbered_frames(100), "What color is the car?")
    first, few, fourth = scripted.engine.requests  # type: ignore[attr-defined]
    assert frame_numbers(first) == [3 * i for i in range(16)]
    assert frame_numbers(few) == [0, 2] and frame_numbers(fourth) == [0, 33, 66, 99]
    assert few.prompt.endswith("Frame 1: <image>, Frame 2: <image>\nWhat color is the car?ASSISTANT:")
    assert first.query == "What color is the car?" and first.num_boxes is None and not first.regions
    assert isinstance(tiny.ask(noise(1)[0], "What color is it?"), str)
    with pytest.raises(InputError, match="question"):
        scripted.ask(numbered_frames(3), " ")
    with pytest.raises(InputError, match="0 frames"):
        scripted.ask(numbered_frames(3), "What?", num_frames=0)


def test_a_tracker_gives_what_track_gives(tiny: Elysium) -> None:
    """A real, if untrained, model on frames that come one at a time."""
    frames = noise(11)
    expected = tiny.track(frames, expression="the red car", boxes=[5, 5, 30, 30], clip_length=4)
    tracker, first = tiny.tracker(clip_length=4), frames[0]
    tracker.init(first, box=[5, 5, 30, 30])
    tracker.init(first, expression="the red car")
    results = list(tracker.stream(frames[1:]))
    for number, track in enumerate(expected.tracks):
        np.testing.assert_array_equal([r.objects[number].box_xyxy for r in results], track.boxes_xyxy)
        np.testing.assert_allclose([r.objects[number].score for r in results], track.scores)


def test_objects_start_at_their_times(scripted: Elysium) -> None:
    result = scripted.track(numbered_frames(20), "a dog", [20, 20, 60, 40], at_s=[0.2, 0.0], fps=10)
    assert [int(track.indices[0]) for track in result.tracks] == [2, 0]
    assert [int(t.indices[0]) for t in scripted.track(numbered_frames(9), "a dog", at_s=0.4, fps=10).tracks] == [4]
    for times in ([0.1, 0.2], -1.0, [float("nan")]):
        with pytest.raises(InputError, match=r"times|cannot start"):
            scripted.track(numbered_frames(3), "a dog", at_s=times)


def test_ground(tiny: Elysium, scripted: Elysium) -> None:
    box, score = scripted.ground(numbered_frames(1)[0], "a dog")
    assert box.tolist() == [20, 20, 60, 40]
    assert score == 0.9
    assert scripted.engine.requests[0].single_box  # type: ignore[attr-defined]
    scripted.engine.script = lambda request, frame: ("absent", None, 0.7)  # type: ignore[attr-defined]
    box, score = scripted.ground(numbered_frames(1)[0], "a dog")
    assert np.isnan(box).all()
    assert score == 0.7
    found, score = tiny.ground(noise(1)[0], "a dog")
    assert found.shape == (4,)
    assert 0 <= score <= 1
    with pytest.raises(InputError, match="empty"):
        scripted.ground(numbered_frames(1)[0], " ")
    with pytest.raises(InputError, match="shape"):
        scripted.ground(np.zeros((4, 4), dtype=np.uint8), "a dog")


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        Elysium.from_pretrained("nanoo")
    with pytest.raises(ModelError, match="no model"):
        Elysium.from_pretrained(tmp_path / "none" / "here")
    with pytest.raises(ModelError, match=r"config\.json"):
        Elysium.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="Unknown device"):
        Elysium.from_pretrained("nano", device="gpu")


def test_a_folder_without_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelError, match="no weights"):
        Elysium.from_pretrained(tmp_path)


def test_a_folder_without_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        Elysium.from_pretrained(tmp_path, device="cpu")


def test_a_config_of_something_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    for text in ("{", json.dumps({"model_type": "bert"}), "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError):
            Elysium.from_pretrained(tmp_path, device="cpu")


def test_wrong_keys_are_all_listed(folder: Path, tmp_path: Path) -> None:
    names: list[str] = []

    def change(weights: dict[str, torch.Tensor]) -> None:
        projector = sorted(name for name in weights if name.startswith("projector"))
        names.extend(projector[:3])
        del weights[projector[0]], weights[projector[1]]
        weights[projector[2]] = torch.zeros(3, 5)
        weights["stranger.weight"] = torch.zeros(2)

    with pytest.raises(ModelError) as caught:
        Elysium.from_pretrained(altered(folder, tmp_path, change), device="cpu")
    said = str(caught.value)
    for name in [*names, "stranger.weight"]:
        assert name in said
    assert "2 missing" in said
    assert "1 unexpected" in said
    assert "1 mismatched" in said
    assert "(3, 5)" in said


def test_broken_weights(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Elysium.from_pretrained(tmp_path, device="cpu")
