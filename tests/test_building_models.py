"""Plug-ins that are neural networks: tiny random Grounding DINO and SAM 2, and nano on a clip made by program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from building_kit import FakeClip, phrase
from elysium.boxes import iou
from elysium.building.models import sam2 as sam2_module
from elysium.building.models.grounding_dino import GroundingDino, input_size
from elysium.building.models.loading import is_here, pixels
from elysium.building.models.own import GROUNDING_LINES, OwnFollower, OwnGrounder, calibrate
from elysium.building.models.sam2 import Sam2Follower, mask_box, upsampled
from elysium.building.stages import Follower, Grounder
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.errors import InputError, ModelError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "red", "dog", "cat", "car", "running"]
SIZE_WH = (90, 60)


def noise(count: int, seed: int = 0) -> FakeClip:
    rng = np.random.default_rng(seed)
    return FakeClip([rng.integers(0, 255, (SIZE_WH[1], SIZE_WH[0], 3)).astype(np.uint8) for _ in range(count)])


# --- Grounding DINO --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertTokenizer, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1],
                                   num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4]),
        text_config=BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                               intermediate_size=16, max_position_embeddings=64),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=10, encoder_n_points=2, decoder_n_points=2,
        fusion_dropout=0.0, max_text_len=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("dino")
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    said = {"size": {"shortest_edge": 96, "longest_edge": 128}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def test_grounding_dino_answers_every_phrase_from_one_forward(dino_folder: Path):
    grounder = GroundingDino(str(dino_folder), device="cpu")
    assert isinstance(grounder, Grounder) and grounder.name == f"grounding-dino ({dino_folder})"
    image = noise(1).images[0]
    both = grounder.ground(image, [phrase("red car"), phrase("dog")])
    assert len(both) == 2
    for one in both:
        assert one.boxes_xyxy.shape == (len(one.scores), 4) and 0 < len(one.scores) <= 10
        assert (np.diff(one.scores) <= 0).all() and (one.scores > 0.05).all() and (one.scores <= 1).all()
        assert (one.boxes_xyxy[:, 2:] > one.boxes_xyxy[:, :2]).all()
    assert grounder.ground(image, []) == []


def test_grounding_dino_says_what_transformers_would(dino_folder: Path):
    """The same boxes and scores as transformers' model with its own tokenizer's text and its own post-processing."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoTokenizer
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil
    from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

    image = noise(1).images[0]
    ours = GroundingDino(str(dino_folder), device="cpu")
    (one,) = ours.ground(image, [phrase("red car")])
    model = AutoModelForZeroShotObjectDetection.from_pretrained(dino_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(dino_folder)
    seen = GroundingDinoImageProcessorPil.from_pretrained(dino_folder)(image, return_tensors="pt")
    np.testing.assert_allclose(
        pixels(image, input_size(SIZE_WH, ours._said), ours._said).numpy(), seen["pixel_values"].numpy(), atol=0.05
    )
    inputs = tokenizer("red car.", return_tensors="pt")
    inputs = {**inputs, **{key: torch.as_tensor(seen[key]) for key in ("pixel_values", "pixel_mask")}}  # fmt: skip
    with torch.no_grad():
        output = model(**inputs)
    output.logits[..., [0, 3, 4]] = -torch.inf  # theirs also counts [CLS], "." and [SEP]
    post = GroundingDinoProcessor.post_process_grounded_object_detection
    fake = type("Stand-in", (), {"batch_decode": staticmethod(lambda ids: [""] * len(ids))})()
    (theirs,) = post(fake, output, inputs["input_ids"], threshold=0.05, target_sizes=[SIZE_WH[::-1]])
    order = torch.argsort(-theirs["scores"])
    np.testing.assert_allclose(one.scores, theirs["scores"][order].numpy(), atol=2e-3)
    np.testing.assert_allclose(one.boxes_xyxy, theirs["boxes"][order].numpy(), atol=0.2)


@pytest.mark.parametrize(
    "size_wh", [(640, 480), (480, 640), (1920, 1080), (1081, 1919), (800, 800), (90, 60), (3000, 500)]
)
def test_the_input_size_is_that_of_transformers(size_wh: tuple[int, int]):
    from transformers.image_transforms import get_size_with_aspect_ratio

    assert input_size(size_wh, {})[::-1] == get_size_with_aspect_ratio(size_wh[::-1], 800, 1333)


def test_phrases_share_a_text_as_long_as_it_has_room(dino_folder: Path):
    grounder = GroundingDino(str(dino_folder), device="cpu")
    ids = {word: number for number, word in enumerate(WORDS)}
    ((text, spans),) = grounder._texts(["Red car.", "dog"])
    assert text == [ids[w] for w in ("[CLS]", "red", "car", ".", "dog", ".", "[SEP]")]
    assert spans == [(1, 3), (4, 5)]
    texts = grounder._texts(["a red running dog"] * 5)  # 16 tokens in a text, 5 of each with its stop
    assert [len(spans) for _, spans in texts] == [2, 2, 1]
    assert all(len(text) <= 16 for text, _ in texts)
    assert len(grounder.ground(noise(1).images[0], [phrase("a red running dog")] * 5)) == 5
    with pytest.raises(InputError, match="has 20 tokens"):
        grounder._texts(["dog " * 20])
    with pytest.raises(InputError, match="has 0 tokens"):
        grounder._texts(["..."])


def test_checkpoints_that_cannot_be_loaded_say_why(tmp_path: Path, dino_folder: Path):
    with pytest.raises(ModelError, match="There is no folder '/gone/model', and it is no hub id"):
        GroundingDino("/gone/model", device="cpu")
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        GroundingDino("nobody/nothing", device="cpu")
    with pytest.raises(ModelError, match="cannot be loaded"):
        GroundingDino(str(tmp_path), device="cpu")
    with pytest.raises(ModelError, match=r"do not fit its architecture: .* missing"):
        Sam2Follower(str(dino_folder), device="cpu")


def test_what_is_here_without_the_network(tmp_path: Path):
    assert is_here(str(tmp_path)) and not is_here("nobody/nothing")


# --- SAM 2 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    torch.manual_seed(0)
    trunk = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=128,
                              backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]])  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision, image_size=64, max_object_pointers_in_encoder=4, num_maskmem=3,
        prompt_encoder_config={"hidden_size": 128, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        memory_attention_hidden_size=128, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=16,
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=16, memory_fuser_num_layers=1,
        memory_attention_rope_feat_sizes=[4, 4],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    Sam2VideoModel(config).save_pretrained(folder)
    return folder


STARTS = [np.array([10.0, 10, 40, 40]), np.array([30.0, 20, 80, 50])]


def test_sam2_follows_several_boxes_in_one_pass(sam_folder: Path):
    clip = noise(12)
    follower = Sam2Follower(str(sam_folder), device="cpu")
    assert isinstance(follower, Follower)
    answers = follower.follow(clip, STARTS)
    assert clip.reads == 12 and len(answers) == 2
    for (boxes, scores), start in zip(answers, STARTS, strict=True):
        np.testing.assert_array_equal(boxes[0], start)
        assert scores is not None and np.isnan(scores[0]) and ((scores[1:] > 0) & (scores[1:] < 1)).all()
        there = boxes[~np.isnan(boxes).any(axis=1)]
        assert (there[:, 2:] > there[:, :2]).all() and (there >= 0).all() and (there <= [*SIZE_WH, *SIZE_WH]).all()


def test_letting_go_of_old_frames_changes_nothing(sam_folder: Path, monkeypatch: pytest.MonkeyPatch):
    follower = Sam2Follower(str(sam_folder), device="cpu")
    sessions: list[Any] = []
    make = follower._session
    monkeypatch.setattr(follower, "_session", lambda *a: sessions.append(make(*a)) or sessions[-1])
    short = follower.follow(noise(12), STARTS)
    monkeypatch.setattr(sam2_module, "_forget", lambda *a: None)
    whole = follower.follow(noise(12), STARTS)
    for (boxes, scores), (all_boxes, all_scores) in zip(short, whole, strict=True):
        np.testing.assert_array_equal(boxes, all_boxes)
        np.testing.assert_array_equal(scores, all_scores)
    lean, full = sessions
    assert sum(frame.numel() for frame in lean.processed_frames.values()) == 0
    assert len(lean.output_dict_per_obj[0]["non_cond_frame_outputs"]) == 5
    assert len(full.output_dict_per_obj[0]["non_cond_frame_outputs"]) == 11


def test_sam2_is_prompted_with_corners_in_its_own_pixels(sam_folder: Path):
    session = Sam2Follower(str(sam_folder), device="cpu")._session(STARTS, SIZE_WH)
    prompt = session.point_inputs_per_obj[1][0]
    np.testing.assert_allclose(
        prompt["point_coords"][0, 0], [[30 * 64 / 90, 20 * 64 / 60], [80 * 64 / 90, 50 * 64 / 60]]
    )
    assert prompt["point_labels"].tolist() == [[[2, 3]]]
    assert session.obj_with_new_inputs == [0, 1]


def test_masks_become_boxes():
    mask = np.zeros((60, 90), dtype=bool)
    assert np.isnan(mask_box(mask)).all()
    mask[20:30, 40:60] = True
    mask[25, 35] = True
    assert mask_box(mask).tolist() == [35, 20, 60, 30]
    mask[:] = True
    assert mask_box(mask).tolist() == [0, 0, 90, 60]


def test_masks_are_brought_to_the_frames_size():
    logits = torch.full((2, 1, 16, 16), -1.0)
    logits[0, 0, 4:8, 8:16] = 1.0
    first, second = upsampled(logits, (160, 80))
    assert first.shape == (80, 160) and not second.any()
    np.testing.assert_allclose(mask_box(first), [80, 20, 160, 40], atol=1)


# --- our own model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_clip() -> tuple[FakeClip, np.ndarray, str]:
    """A clip of one thing, its boxes in pixels, and words for it."""
    config = SynthConfig(size_px=192, num_frames=9, max_objects=1, min_scale=0.3, motion=0.5, patch_share=0,
                         region_probability=0, occlusion_probability=0, leave_probability=0)  # fmt: skip
    made = ClipGenerator(config, AssetLibrary(), seed=3).generate(0)
    (thing,) = made.objects
    return FakeClip(list(made.frames)), thing.boxes_xyxyn * 192.0, thing.expressions[0]


@pytest.fixture(scope="module")
def grounder() -> OwnGrounder:
    return OwnGrounder(threads=1)


def test_nano_finds_and_follows(made_clip: tuple[FakeClip, np.ndarray, str], grounder: OwnGrounder):
    clip, truth, words = made_clip
    (found,) = grounder.ground(clip.frame(0), [phrase(words)])
    assert found.boxes_xyxy.shape == (1, 4) and 0 < found.scores[0] <= 1
    assert iou(found.boxes_xyxy[0], truth[0]) > 0.5
    follower = OwnFollower(threads=1)
    ((boxes, scores),) = follower.follow(clip, [truth[0]])
    assert scores is not None and boxes.shape == (9, 4) and scores.shape == (9,)
    np.testing.assert_array_equal(boxes[0], truth[0])
    assert (iou(boxes, truth) > 0.5).mean() > 0.7


def test_own_boxes_that_only_stand_in_are_none(monkeypatch: pytest.MonkeyPatch):
    follower = OwnFollower.__new__(OwnFollower)
    track = type("T", (), {
        "states": np.array(["tracked", "carried", "absent"]), "boxes_xyxy": np.array([[0.0, 0, 9, 9]] * 3),
        "scores": np.array([0.9, 0.1, 0.8]), "__len__": lambda self: 3,
    })()  # fmt: skip
    model = type("M", (), {"track": lambda self, frames, boxes: type("R", (), {"tracks": [track]})()})()
    follower._model, follower._tracking, follower._line = model, {}, None
    ((boxes, _),) = follower.follow(noise(4), [np.array([1.0, 1, 9, 9])])
    assert boxes[0].tolist() == [1, 1, 9, 9] and np.isnan(boxes[1:]).all()


@pytest.mark.parametrize("line", [None, (5.65, 2.90)])
def test_calibrated_scores_keep_their_order_and_their_ends(line: tuple[float, float] | None):
    scores = np.array([0.0, 0.05, 0.14, 0.3, 1.0, np.nan])
    found = calibrate(scores, line)
    if line is None:
        np.testing.assert_array_equal(found, scores)
        return
    assert found[0] == 0 and np.isnan(found[-1]) and (np.diff(found[:-1]) > 0).all() and found[-2] <= 1
    assert found[2] == pytest.approx(1 / (1 + np.exp(-(5.65 + 2.90 * np.log(0.14 / 0.86)))))  # about 0.6


def test_nanos_scores_are_calibrated_and_its_boxes_are_not_changed(
    made_clip: tuple[FakeClip, np.ndarray, str], grounder: OwnGrounder, monkeypatch: pytest.MonkeyPatch
):
    clip, _, words = made_clip
    (likely,) = grounder.ground(clip.frame(0), [phrase(words)])
    monkeypatch.setattr(grounder, "_line", None)
    (own,) = grounder.ground(clip.frame(0), [phrase(words)])
    np.testing.assert_array_equal(own.boxes_xyxy, likely.boxes_xyxy)
    np.testing.assert_allclose(calibrate(own.scores, GROUNDING_LINES["nano"]), likely.scores)
    assert own.scores[0] < likely.scores[0]


def test_the_words_that_nano_is_asked_for():
    grounder = OwnGrounder.__new__(OwnGrounder)
    grounder._line = None
    asked: list[str] = []

    def ground(image: np.ndarray, words: str) -> tuple[np.ndarray, float]:
        asked.append(words)
        return np.full(4, np.nan), 0.0

    grounder._model = type("M", (), {"ground": staticmethod(ground)})()
    for words in ("text", "expression"):
        grounder._words = words  # type: ignore[assignment]
        (nothing,) = grounder.ground(noise(1).images[0], [phrase("red dog", "a red dog runs")])
        assert nothing.boxes_xyxy.shape == (0, 4)
    assert asked == ["red dog", "a red dog runs"]
    with pytest.raises(InputError, match="The words asked for are 'noun'"):
        OwnGrounder(words="noun")  # type: ignore[arg-type]


# --- the documentation -----------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "building.md").read_text(encoding="utf-8")


def block(words: str) -> str:
    """The Python of the page that holds these words."""
    (found,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if words in code)
    return found


def test_the_pages_walk_through_the_stages_runs(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("spacy", reason="spaCy is not installed")
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    names: dict[str, Any] = {}
    exec(compile(block("class Clip:"), "building.md", "exec"), names)
    assert capsys.readouterr().out.startswith("[('pink checkered diamond', ())]")
    (verdict,) = names["verdicts"]
    assert verdict.kept
    truth = names["made"].objects[0].boxes_xyxyn * 192.0
    assert iou(verdict.trajectory.boxes_xyxy, truth).mean() > 0.5


def test_the_pages_tracker_follows_with_a_stand_in():
    names: dict[str, Any] = {}
    exec(compile(block("class MixFormerFollower"), "building.md", "exec"), names)

    class Still:
        def initialize(self, image: np.ndarray, info: dict[str, Any]) -> None:
            self.box = info["init_bbox"]

        def track(self, image: np.ndarray) -> dict[str, Any]:
            return {"target_bbox": self.box, "conf_score": 0.9}

    follower = names["MixFormerFollower"]("mixformer.pth")
    follower.new_tracker = Still
    assert isinstance(follower, Follower)
    first, second = follower.follow(noise(3), STARTS)
    np.testing.assert_array_equal(first[0], [STARTS[0]] * 3)
    np.testing.assert_array_equal(second[0], [STARTS[1]] * 3)
    assert np.isnan(first[1][0]) and first[1][1:].tolist() == [0.9, 0.9]
