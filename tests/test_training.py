"""Training data and loss: which tokens carry loss, what the gate is asked, and that samples repeat exactly."""

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from elysium.config import DataSection, LossSection, Phase
from elysium.config_files import load_stages
from elysium.errors import InputError
from elysium.language.prompts import Task
from elysium.model.presets import number_token_ids, train_nano_tokenizer
from elysium.training.collate import IGNORED, TEMPLATE, WORD, Collator, gate_targets, number_kernel
from elysium.training.features import FeatureCache
from elysium.training.loss import (
    AnswerLoss,
    GateLoss,
    gate_parts,
    generalized_iou,
    name_loss,
    teacher_forced_boxes,
    total,
)
from elysium.training.samples import Sample, SampleDataset, names, part_of
from elysium.training.validation import IouTally, NameTally
from tiny import tiny_model_and_processor, tiny_tokenizer

GRID = 4
_numbers = count()


def sample(
    task: Task, answer: str, frames: int, boxes=None, region=None, query=None, prompt="USER: <image>", names=()
) -> Sample:
    boxes = np.tile(np.array([0.1, 0.2, 0.5, 0.6], np.float32), (frames, 1)) if boxes is None else boxes
    keys = tuple((next(_numbers), frame) for frame in range(frames))
    features = np.zeros((frames, 7), np.float16)
    return Sample(task, prompt, answer, answer, features, boxes, region, query, keys, names, boxes[0])


@pytest.fixture(scope="module")
def processor():
    """A tiny processor whose tokenizer writes every number 0..100 as one token."""
    _, made = tiny_model_and_processor("prompt")
    made.tokenizer = train_nano_tokenizer(
        ["the red car moving to the left"] * 9, 480, phrases=("Frame ", ": [", "], Frame ")
    )
    made.image_token_id = made.tokenizer.convert_tokens_to_ids("<image>")
    made.region_token_id = made.tokenizer.convert_tokens_to_ids("<region>")
    return made


@pytest.fixture
def collator(processor):
    return Collator(processor, number_token_ids(processor.tokenizer), GRID)


def test_loss_falls_on_the_answer_and_its_end_token_alone(collator, processor):
    answer = "Frame 1: [10,20,50,60], Frame 2: [0,0,0,0]."
    batch = collator(
        [
            sample(Task.SOT, answer, 2, prompt="USER: Frame 1: <image>, Frame 2: <image>\nfollowASSISTANT:"),
            sample(Task.REG, "the red car", 1),
        ]
    )
    for row, text in enumerate((answer, "the red car")):
        labels = batch["labels"][row]
        assert processor.tokenizer.decode(labels[labels != IGNORED]) == text + "</s>"
        assert torch.equal(labels[labels != IGNORED], batch["input_ids"][row][labels != IGNORED])
        assert labels[-1] == processor.tokenizer.eos_token_id
    assert batch["number_values"][0][batch["number_values"][0] >= 0].tolist() == [10, 20, 50, 60, 0, 0, 0, 0]
    assert (batch["number_values"][1] == WORD).all()


def test_positions_count_real_tokens_only(collator):
    batch = collator(
        [sample(Task.REG, "the red car", 1), sample(Task.REC, "[1,2,3,4]", 1, prompt="USER: <image>\nwhere?")]
    )
    for ids, mask in zip(batch["position_ids"], batch["attention_mask"], strict=True):
        assert ids[mask == 1].tolist() == list(range(int(mask.sum())))


def test_regions_point_at_the_first_frame_of_their_request(collator):
    box = np.array([0.1, 0.2, 0.5, 0.6])
    batch = collator(
        [
            sample(Task.RSOT, "Frame 1: [1,2,3,4].", 3, query="the red car"),
            sample(Task.SOT, "Frame 1: [1,2,3,4].", 2, region=box),
        ]
    )
    assert batch["region_frames"].tolist() == [3]
    assert batch["frame_counts"].tolist() == [3, 2]
    assert batch["query_mask"].sum(dim=1).tolist()[1] == 0 < batch["query_mask"].sum(dim=1).tolist()[0]


def test_gate_targets_by_hand():
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.25], [float("nan")] * 4, [0.26, 0.26, 0.3, 0.3]])
    targets = gate_targets(boxes, GRID)
    assert targets[0].nonzero().squeeze(-1).tolist() == [0, 1]
    assert targets[1].sum() == 0
    assert targets[2].tolist() == [0.0] * 5 + [1.0] + [0.0] * 10  # a tiny object still has its one token


def test_number_kernel():
    kernel = number_kernel(1.0)
    assert torch.allclose(kernel.sum(dim=1), torch.ones(101))
    assert kernel[50].argmax() == 50 and torch.isclose(
        kernel[50, 51] / kernel[50, 50], torch.tensor(np.exp(-0.5)).float()
    )
    assert torch.equal(number_kernel(0), torch.eye(101))


def test_answer_loss_by_hand():
    """Three tokens, one of them a number softened over its neighbours."""
    numbers = list(range(3, 104))
    loss = AnswerLoss(numbers, sigma=1.0)
    logits = torch.randn(1, 3, 110)
    labels, values = torch.tensor([[2, 53, 1]]), torch.tensor([[TEMPLATE, 50, TEMPLATE]])
    gate = GateLoss(torch.zeros(1, 4), None, None, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4))
    parts = {**loss(logits, labels, values), **gate_parts(gate)}
    log_probs = logits[0].log_softmax(-1)
    by_hand = -sum(number_kernel(1.0)[50, v] * log_probs[1, numbers[v]] for v in range(101))
    assert torch.isclose(parts["numbers"], by_hand)
    assert torch.isclose(parts["template"], -(log_probs[0, 2] + log_probs[2, 1]) / 2)
    assert parts["words"] == 0 and torch.isclose(parts["gate"], torch.tensor(2.0).log())
    assert torch.isclose(parts["choice"], torch.tensor(4.0).log())
    summed = total(parts, LossSection(template=0.5, gate=2.0, choice=0.25))
    assert torch.isclose(summed, by_hand + 0.5 * parts["template"] + 2 * parts["gate"] + 0.25 * parts["choice"])
    shares = torch.tensor([0.5, 0, 0, 0.25, 0, 0, 0])
    assert torch.isclose(total(parts, LossSection(gate=2.0), shares), 0.5 * by_hand + 0.5 * parts["gate"])


def test_names_by_hand():
    """Two things, the second with one word: the words of a thing share its target, whatever else is likely."""
    logits, labels = torch.randn(2, 9), torch.tensor([[4, 7], [2, IGNORED]])
    log_probs = logits.log_softmax(-1)
    by_hand = -((log_probs[0, 4] + log_probs[0, 7]) / 2 + log_probs[1, 2]) / 2
    assert torch.isclose(name_loss(logits, labels), by_hand)
    tally = NameTally("named")
    tally.add(torch.eye(9)[[7, 3]], labels)
    assert tally.scores() == {"named": 0.5} and NameTally("empty").scores() == {}


def test_names_point_at_the_first_frame_of_their_request(collator, processor):
    boxes = np.array([[0.1, 0.2, 0.5, 0.6], [0.3, 0.2, 0.7, 0.6]], np.float32)
    rows = [sample(Task.REC, "[1,2,3,4]", 3), sample(Task.REG, "the red car", 2, boxes=boxes, names=("car", "red"))]
    batch = collator(rows)
    assert batch["named_boxes"].tolist() == boxes[:1].tolist() and batch["named_frames"].tolist() == [3]
    assert processor.tokenizer.decode(batch["name_labels"][0]) == " car red"
    assert "named_boxes" not in collator(rows[:1])


def test_what_has_no_words_has_no_names(cache):
    named, nameless = replace(cache[0][1].objects[0]), replace(cache[0][1].objects[0], expressions=())
    assert names(replace(named, noun="car", colour="red")) == ("car", "red")
    assert names(replace(named, noun="car", colour=None)) == ("car",) and names(nameless) == ()


def test_a_part_lies_in_its_box():
    box, rng = np.array([0.2, 0.4, 0.6, 0.5], np.float32), np.random.default_rng(0)
    parts = np.array([part_of(rng, box) for _ in range(200)])
    assert (parts[:, :2] >= box[:2] - 1e-6).all() and (parts[:, 2:] <= box[2:] + 1e-6).all()
    assert 0.4 < (parts == box).all(axis=1).mean() < 0.6
    assert ((parts[:, 2:] - parts[:, :2]) / (box[2:] - box[:2])).min() > 0.29


def test_votes_are_measured_in_object_sizes():
    boxes = torch.tensor([[0.2, 0.2, 0.4, 0.6]])
    # Half a width off; nonsense outside the object. The voted box is off by a width and by half a height.
    votes = torch.tensor([[[0.3, 0.2, 0.5, 0.6], [0.9, 0.9, 0.9, 0.9]]])
    gate = GateLoss(torch.zeros(1, 2), votes, boxes + 0.1, torch.tensor([[1.0, 0.0]]), boxes)
    # The vote shares half its width: intersection 1/3 of the union, which fills the hull.
    by_token = np.log(1.5) / 2 + (1 - 1 / 3) / 2
    assert torch.isclose(gate.voting(), torch.tensor(by_token + (np.log(1.5) + np.log(1.25)) / 2).float())
    elsewhere = GateLoss(torch.zeros(1, 2), votes, boxes + 0.5, torch.tensor([[1.0, 0.0]]), boxes)
    assert torch.isclose(elsewhere.voting(), torch.tensor(by_token).float())  # on another thing: not taught


def test_small_things_count_as_much_as_large_ones():
    """Frame 1: a thing of one token, its vote right. Frame 2: one of three tokens, a width off. Frame 3: nothing."""
    boxes = torch.tensor([[0.2, 0.2, 0.4, 0.4], [0.5, 0.5, 0.7, 0.7], [float("nan")] * 4])
    targets = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]])
    votes = boxes.nan_to_num(0.0).unsqueeze(1).repeat(1, 3, 1)
    votes[1] += 0.2
    gate = GateLoss(torch.zeros(3, 3), votes, torch.zeros(3, 4), targets, boxes)
    off = np.log(2) + (1 - (0 - (0.16 - 0.08) / 0.16)) / 2
    assert torch.isclose(gate.voting(), torch.tensor((0 + off) / 2).float())


def test_generalized_iou_by_hand():
    first = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(3, 4)
    second = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.5, 1.0], [2.0, 0.0, 3.0, 1.0]])
    assert torch.allclose(generalized_iou(first, second), torch.tensor([1.0, 1 / 3, -1 / 3]))


def test_voted_boxes_are_tallied_without_the_given_frame_and_where_the_object_is():
    tally = IouTally("SOT", given=True)
    true = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1], [float("nan")] * 4, [0.5, 0, 1.5, 1]])
    tally.add(torch.tensor([[9.0, 9, 9, 9], [0, 0, 1, 1], [0, 0, 1, 1], [0.5, 0, 1.5, 1]]), true, 4)
    assert tally.scores() == {"SOT": 1.0, "SOT_hold": pytest.approx((1 + 1 / 3) / 2)}


def test_teacher_forced_boxes_are_read_where_the_numbers_stand():
    logits = torch.zeros(1, 5, 20)
    for place, token in enumerate((12, 13, 14, 15)):
        logits[0, place + 1, token] = 5
    predicted, true = teacher_forced_boxes(logits, torch.tensor([[-1, 7, 8, 9, 9]]), torch.arange(10, 20))
    assert predicted.tolist() == [[2, 3, 4, 5]] and true.tolist() == [[7, 8, 9, 9]]


@pytest.fixture
def cache(tmp_path):
    """Two clips of eight frames with two objects each; the feature of a frame is its number."""
    boxes = [[round(0.1 + 0.02 * t, 3), 0.2, round(0.4 + 0.02 * t, 3), 0.6] for t in range(8)]
    gone = [*boxes[:6], None, None]
    items = [
        {"noun": "car", "colour": "red", "boxes_xyxyn": boxes, "expressions": ["the red car"],
         "description": "a red car"},
        {"noun": "patch", "colour": None, "boxes_xyxyn": gone, "expressions": [], "description": "a patch"},
    ]
    (tmp_path / "labels-00000.json").write_text(json.dumps([items, items]))
    np.save(tmp_path / "features-00000.npy", np.arange(8, dtype=np.float16).reshape(1, 8, 1).repeat(2, axis=0))
    return FeatureCache(tmp_path, 2)


def dataset(cache, tasks=None, region_mark=True, stills=None, seed=0, **asked) -> SampleDataset:
    tasks = tasks or {"SOT": 0.5, "RSOT": 0.2, "REC": 0.2, "REG": 0.1}
    phases = (Phase(until=0.5, frames=2), Phase(until=1.0, frames=4))
    data = DataSection(tasks=tasks, **asked)
    return SampleDataset(cache, 200, 10, phases, data, seed, stills, region_mark=region_mark)


def test_samples_depend_on_seed_and_index_alone(cache):
    one, two = dataset(cache), dataset(cache)
    for index in (17, 3, 199, 17):
        a, b = one[index], two[index]
        assert (a.prompt, a.answer) == (b.prompt, b.answer) and np.array_equal(a.features, b.features)
    assert any(one[i].answer != dataset(cache, seed=1)[i].answer for i in range(20))


def test_frames_boxes_and_answers_stay_together(cache):
    """The published loader lost the boxes of the frames it sampled; here the feature says which frame it is."""
    for index in range(200):
        item = dataset(cache)[index]
        for feature, box in zip(item.features, item.boxes, strict=True):
            assert np.isnan(box[0]) or abs(box[0] - (0.1 + 0.02 * float(feature[0]))) < 1e-4
        if item.task is Task.SOT:
            assert item.answer.count("[") == len(item.boxes)
            assert item.answer.count("[0,0,0,0]") == np.isnan(item.boxes[:, 0]).sum()


def test_batches_hold_one_frame_count_and_follow_the_curriculum(cache):
    data = dataset(cache)
    counts = [{len(data[i].boxes) for i in range(b, b + 10)} for b in range(0, 200, 10)]
    assert all(len(c) == 1 for c in counts)
    assert set.union(*counts[:10]) <= {1, 2} and set.union(*counts[10:]) <= {1, 4}


def test_a_group_asks_about_the_same_frames_which_are_looked_at_once(cache, collator):
    data = dataset(cache, group_size=5, region_mark=False)
    for start in range(0, 200, 5):
        keys = {data[i].frame_keys for i in range(start, start + 5)}
        assert len(keys) <= 2  # most draws serve; a group whose clip does not goes on to another
    group = [replace(data[i], prompt="USER: <image>") for i in range(60, 65)]
    batch = collator(group)
    assert len(batch["vision_features"]) == len({key for item in group for key in item.frame_keys})
    alone = np.concatenate([item.features for item in group]).astype(np.float32)
    assert np.array_equal(batch["vision_features"][batch["frame_ids"]].numpy(), alone)


def test_images_come_from_the_stills_when_there_are_any(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stills")
    item = {"noun": "dog", "colour": None, "boxes_xyxyn": [[0.1, 0.1, 0.5, 0.5]], "expressions": ["a dog"],
            "description": "a dog"}  # fmt: skip
    (folder / "labels-00000.json").write_text(json.dumps([[item]]))
    np.save(folder / "features-00000.npy", np.full((1, 1, 1), 99, np.float16))
    data = dataset(cache, stills=FeatureCache(folder, 1))
    for index in range(100):
        one = data[index]
        assert (one.features[0, 0] == 99) == (one.task in (Task.REC, Task.REG))


def test_words_are_asked_from_the_first_frame_on(cache):
    data = dataset(cache)
    asked = [data[i] for i in range(200) if data[i].task in (Task.RSOT, Task.REC)]
    assert asked and all(item.features[0, 0] == 0 and item.query == "the red car" for item in asked)


def test_prompt_box_is_frame_one_of_the_answer(cache):
    data = dataset(cache, box_jitter=0.3)
    for index in range(100):
        item = data[index]
        if item.task is Task.SOT:
            first = item.answer.split("]")[0].split("[")[1]
            assert f"[{first}]<region>" in item.prompt
            assert np.allclose(item.region * 100, [int(v) for v in first.split(",")])


@pytest.mark.parametrize(("text", "sentence"), [
    ("output_dir: x\nmagic: 1\n", "magic: Extra inputs are not permitted"),
    ("output_dir: x\ndata: {train_clips: -1}\n", "data.train_clips"),
    ("output_dir: x\ndata: {train_clips: 0}\n", "data: train_clips is 0 and there are no sources"),
    ("output_dir: x\ndata: {tasks: {SOTT: 1}}\n", "data.tasks.SOTT"),
    ("output_dir: x\nmodel: {lora: {r: 0}}\n", "model.lora.r"),
    ("output_dir: x\nmodel: {lora: {}, learns: [language_model]}\n", "model: lora freezes the language model"),
    ("output_dir: x\nmodel: {path: a, compose: {vision: b, language: c}}\n", "path and compose exclude each other"),
    ("output_dir: x\nmuon_lr: 0.1\ntrainer: {fsdp: full_shard}\n", "muon_lr needs whole matrices"),
    ("output_dir: x\nloss: {answers: false, gate: 0, choice: 0, votes: 0}\n", "every weight of the loss is zero"),
    ("output_dir: x\nmodel: {path: no/such/folder}\n", "model.path is no/such/folder, which does not exist"),
    ("output_dir: x\ndata: {assets: nowhere}\n", "data.assets is nowhere, which does not exist"),
    ("output_dir: x\ndata: {sources: [{annotations: a.jsonl, images: .}]}\n", "annotations is a.jsonl, which does not"),
    ("output_dir: x\ntrainer: {deepspeed: none.json}\n", "trainer.deepspeed is none.json, which does not exist"),
    ("output_dir: x\nphases: [{until: 0.5, frames: 2}]\n", "the last must have until: 1.0"),
    ("output_dir: [\n", "not readable YAML"),
])  # fmt: skip
def test_bad_configurations_name_the_key(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence.replace(".", r"\.")):
        load_stages(path)


def test_overrides(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("output_dir: x\n")
    (config,) = load_stages(path, ["data.train_clips=5", "trainer.max_steps=3", "trainer.learning_rate=1e-4"])
    assert (config.data.train_clips, config.trainer) == (5, {"max_steps": 3, "learning_rate": 1e-4})
    with pytest.raises(InputError, match="Cannot read the override 'x'"):
        load_stages(path, ["x"])
    with pytest.raises(InputError, match="No such configuration file"):
        load_stages(tmp_path / "none.yaml")


def test_stages_are_laid_over_the_file_and_follow_each_other(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "output_dir: x\ndata: {tasks: {SOT: 1.0}, seed: 3}\ntrainer: {max_steps: 9, bf16: true}\n"
        "stages:\n- {name: one, loss: {answers: false}, trainer: {max_steps: 2}}\n"
        "- {name: two, data: {tasks: {REC: 1.0}}}\n"
    )
    one, two = load_stages(path, ["stages.0.muon_lr=0.5", "data.seed=4"])
    assert (str(one.output_dir), one.trainer, one.muon_lr) == ("x/one", {"max_steps": 2, "bf16": True}, 0.5)
    assert not one.loss.answers and two.loss.answers and one.model.path is None
    assert str(two.model.path) == "x/one/final" and two.trainer["max_steps"] == 9 and two.muon_lr == 0
    assert one.data.tasks == {"SOT": 1.0} and two.data.tasks == {"REC": 1.0} and one.data.seed == two.data.seed == 4
    with pytest.raises(InputError, match="names no place"):
        load_stages(path, ["stages.7.muon_lr=0.5"])
    path.write_text("output_dir: x\nstages: [{name: one, magic: 1}]\n")
    with pytest.raises(InputError, match="stage one: magic"):
        load_stages(path)
    path.write_text("output_dir: x\nstages: [{muon_lr: 1}]\n")
    with pytest.raises(InputError, match="each with a name"):
        load_stages(path)


def test_numbers_are_single_tokens():
    ids = number_token_ids(train_nano_tokenizer(["a"], 480))
    assert len(set(ids)) == 101
    assert len(tiny_tokenizer()) == 602


def test_what_is_heard_may_be_wrong_what_is_to_be_said_never(cache, collator):
    """Labels keep the truth; inputs hold the misplaced boxes, place by place; the box given in frame 1 stays."""
    data = dataset(cache, slip_share=1.0, region_mark=False)
    items = [i for i in (data[n] for n in range(60)) if i.task is Task.SOT]
    assert any(i.heard != i.answer for i in items)
    for item in items:
        assert item.heard.split("]")[0] == item.answer.split("]")[0]
        item = replace(item, prompt="USER: <image>", query=None)
        batch = collator([item])
        kept = batch["labels"][0] != IGNORED
        decode = collator.processor.tokenizer.decode
        assert decode(batch["labels"][0][kept]) == item.answer + "</s>"
        assert decode(batch["input_ids"][0][kept]) == item.heard + "</s>"
    same = dataset(cache, slip_share=0.0)
    assert all(same[n].heard == same[n].answer for n in range(40))


def test_the_configuration_of_nano_is_sound():
    selector, names, words, answers = load_stages(Path(__file__).parent.parent / "configs" / "nano.yaml")
    assert selector.model.learns == ("selector", "query_embeddings") and not selector.loss.answers
    assert names.model.learns == ("projector",) and names.loss.names
    assert not names.loss.answers and not names.loss.selects
    for before, after in ((selector, names), (names, words), (words, answers)):
        assert after.model.path == before.output_dir / "final" and after.data.cache_dir == before.data.cache_dir
    assert words.loss.answers and answers.loss.answers and words.phases[-1].frames == 1
    assert set(answers.data.tasks) == {task.value for task in Task} - {"CAPTION"}
