"""The bundled model: that it is whole, that its tokenizer and the grammar agree, and that it does its jobs at all."""

import json

import numpy as np
import pytest

from elysium.boxes import iou
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.data.synth.questions import plural
from elysium.data.synth.words import COLOUR_NAMES
from elysium.inference.loading import bundled_folder
from elysium.inference.pipelines import Elysium
from elysium.language.dialects import ELYSIUM
from elysium.language.grammar import AnswerGrammar
from elysium.language.prompts import Task, build_prompt, build_question
from elysium.model.presets import number_token_ids
from elysium.video import open_source

ASSETS = bundled_folder("nano").parents[2] / "assets"


@pytest.fixture(scope="module")
def nano() -> Elysium:
    return Elysium.from_pretrained("nano", threads=1)


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in bundled_folder("nano").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}
    weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    assert 1_000_000 < weights <= 30 * 2**20


def test_numbers_and_template_are_single_tokens(nano):
    tokenizer = nano.processor.tokenizer
    assert len(set(number_token_ids(tokenizer))) == 101
    answer = ELYSIUM.format_boxes([[34, 40, 51, 67], [0, 0, 0, 0], [0, 5, 100, 7]], full_stop=True)
    assert len(tokenizer(answer, add_special_tokens=False).input_ids) == 10 * 3 + 2  # the last "]" and "." are two
    assert tokenizer.decode(tokenizer(answer, add_special_tokens=False).input_ids) == answer


def test_legal_answers_walk_through_the_grammar_in_nanos_own_tokens(nano):
    tokenizer = nano.processor.tokenizer
    grammar, rng = AnswerGrammar(tokenizer), np.random.default_rng(0)
    for count in (1, 2, 8):
        for _ in range(30):
            corners = np.sort(rng.integers(0, 101, (count, 2, 2)), axis=1).reshape(count, 4)
            text = ELYSIUM.format_boxes(corners.tolist(), full_stop=bool(rng.integers(2)))
            state = grammar.start(count)
            for token in [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]:
                assert token in state.allowed(), (text, token)
                state.advance(token)
            assert state.done


def test_prompts_keep_their_text(nano):
    question = build_question(Task.SOT, box_text="[18,29,42,61]", region_mark=True)
    prompt = build_prompt(Task.SOT, 3, question)
    ids = nano.processor.encode_prompt(prompt, num_image_tokens=1)
    assert nano.processor.tokenizer.decode(ids) == prompt


def test_it_tracks_and_describes_the_bundled_clip(nano):
    facts = json.loads((ASSETS / "demo.json").read_text())
    clip = ASSETS / "pedestrians.mp4"
    result = nano.track(clip, boxes=[facts["box_xyxy"]], max_frames=9)
    (track,) = result.tracks
    assert result.num_frames == 9 and track.states[0] == "tracked"
    np.testing.assert_allclose(track.boxes_xyxy[0], facts["box_xyxy"])
    boxes = track.boxes_xyxy[track.states == "tracked"]
    assert (boxes >= 0).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, [0, 2]] <= result.resolution_wh[0]).all() and (boxes[:, [1, 3]] <= result.resolution_wh[1]).all()
    said = nano.describe(open_source(clip, max_frames=2), facts["box_xyxy"])
    assert not any(place in said for place in nano.tracking["places"])  # she is seen through a window
    assert said.split()[0] in ("a", "an") and len(said.split()) >= 2


def test_words_it_never_saw_are_named(nano):
    frame = np.zeros((2, 60, 80, 3), np.uint8)
    assert "sousaphone" in nano.track(frame, expression="the red sousaphone").warnings[0]
    assert nano.track(frame, expression="the red car").warnings == ()


@pytest.mark.parametrize("clip_length", [2, 8])
def test_answers_do_not_depend_on_the_batch(nano, clip_length):
    """Three objects in one batch are answered as each of them alone, token by token."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (8, 96, 128, 3), dtype=np.uint8)
    targets = [{"boxes": [[10, 10, 50, 60]]}, {"expression": "the red car"}, {"expression": "the dog on the left"}]
    together = nano.track(frames, boxes=[[10, 10, 50, 60]], expression=["the red car", "the dog on the left"],
                          clip_length=clip_length)
    for target, track in zip(targets, together.tracks, strict=True):
        (alone,) = nano.track(frames, clip_length=clip_length, **target).tracks
        np.testing.assert_array_equal(alone.boxes_xyxy, track.boxes_xyxy)
        np.testing.assert_allclose(alone.scores, track.scores, atol=1e-5)


def test_it_finds_drawn_shapes_by_words_and_follows_them(nano):
    """Sanity, not an exam (benchmarks/ has those): on drawn shapes it does better than half of its marks."""
    config = SynthConfig(size_px=224, num_frames=8, min_objects=2, max_objects=4, patch_share=0.0, motion=0.5)
    generator = ClipGenerator(config, AssetLibrary(), seed=70_001)
    found, followed, held = [], [], []
    for index in range(12):
        clip = generator.generate(index)
        for item in [o for o in clip.objects if o.expressions][:1]:
            truth = item.boxes_xyxyn * 224
            box, _ = nano.ground(clip.frames[0], item.expressions[0])
            found.append(np.nan_to_num(iou(box[None], truth[:1]))[0] > 0.5)
            track = nano.track(clip.frames, boxes=truth[0]).tracks[0]
            there = np.isfinite(truth[1:, 0])
            followed += np.nan_to_num(iou(track.boxes_xyxy[1:], truth[1:]))[there].tolist()
            held += iou(truth[:1].repeat(7, 0), truth[1:])[there].tolist()
    assert np.mean(found) >= 0.4
    assert np.mean(followed) > np.mean(held) + 0.05


def test_it_answers_questions_with_words_of_their_kind(nano):
    config = SynthConfig(size_px=224, min_objects=2, max_objects=3, patch_share=0.0)
    clip = ClipGenerator(config, AssetLibrary(), seed=3).generate(0)
    noun = next(o.noun for o in clip.objects if o.expressions)
    assert nano.ask(clip.frames, f"What color is the {noun}?") in COLOUR_NAMES
    assert nano.ask(clip.frames, f"How many {plural(noun)} are there?").isdigit()
    assert nano.unknown_words([f"How many {plural(noun)} are there?"]) == []
