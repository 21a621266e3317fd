"""Whole runs of a tiny model on records: resuming, low-rank adapters, parts with rates of their own, bad inputs."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elysium.cli.main import main
from elysium.config import DataSection, Phase
from elysium.config_files import load_stages
from elysium.data.records.index import clips_of
from elysium.errors import InputError, SourceError, TrainingError
from elysium.inference.pipelines import Elysium
from elysium.model import ElysiumForConditionalGeneration
from elysium.training import recipe
from elysium.training.optimizer import part_groups, rate_of
from elysium.training.samples import SampleDataset
from elysium.training.sources import RecordClips
from elysium.training.starting import check_fits
from elysium.training.stopping import StopGently
from elysium.training.trainer import ElysiumTrainer
from process_kit import in_fresh_process
from training_kit import (
    log_lines,
    losses,
    run_whole_and_broken,
    source,
    write_chats,
    write_config,
    write_lines,
    write_model,
    write_records,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny model (its selector draws noise) and records."""
    folder = tmp_path_factory.mktemp("made")
    return write_model(folder / "model"), write_records(folder / "data")


def configuration(made, path, **sections):
    model, records = made
    data = {"sources": [source(records)], **sections.pop("data", {})}
    return write_config(path, model={"path": model, **sections.pop("model", {})}, data=data, **sections)


def weights(folder):
    return load_file(folder / "final" / "model.safetensors")


def changed(before, after):
    """Which parts differ, by the first word of their names."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name].half(), after[name].half())}


def test_records_train_a_model_that_tracks(made, tmp_path):
    path = configuration(made, tmp_path / "run.yaml", loss={"gate": 1.0})
    final = recipe.run(path)
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3, 4] and not (tmp_path / "run" / "saving").exists()
    assert "loss_gate" in log_lines(tmp_path / "run")[0] and "loss_numbers" not in log_lines(tmp_path / "run")[0]
    before = load_file(made[0] / "model.safetensors")
    assert changed(before, weights(tmp_path / "run")) == {"selector", "projector", "language_model"}
    result = Elysium.from_pretrained(final).track(np.zeros((3, 60, 80, 3), np.uint8), boxes=[[10, 10, 40, 50]])
    assert result.num_frames == 3


def test_the_tower_learns_only_where_it_is_named(made, tmp_path):
    learns = ["vision", "projector"]
    recipe.run(configuration(made, tmp_path / "run.yaml", model={"learns": learns}))
    before = load_file(made[0] / "model.safetensors")
    assert changed(before, weights(tmp_path / "run")) == set(learns)


def test_a_frozen_tower_does_not_drift(made, tmp_path):
    """Statistics of batch normalisation change without any gradient, if one lets them."""
    model = write_model(tmp_path / "convolutional", "prompt")
    recipe.run(configuration((model, made[1]), tmp_path / "run.yaml", loss={"gate": 1.0, "choice": 0.5, "votes": 1.0}))
    before, after = load_file(model / "model.safetensors"), weights(tmp_path / "run")
    assert any("running_mean" in name for name in before)
    assert "vision" not in changed(before, after) and "selector" in changed(before, after)


def test_a_resumed_run_equals_an_uninterrupted_one(made, tmp_path):
    """Data position, optimizer, scheduler and the noise of the selector: losses to 1e-6."""
    whole = configuration(made, tmp_path / "whole.yaml", trainer={"dataloader_num_workers": 1})
    broken = configuration(made, tmp_path / "broken.yaml", trainer={"dataloader_num_workers": 1})
    in_fresh_process(run_whole_and_broken, whole, broken, 3)
    in_fresh_process(recipe.run, broken)
    assert losses(tmp_path / "broken").keys() == losses(tmp_path / "whole").keys()
    for step, loss in losses(tmp_path / "whole").items():
        assert losses(tmp_path / "broken")[step] == pytest.approx(loss, rel=1e-6), step
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_half_written_checkpoint_is_not_gone_on_from(made, tmp_path, monkeypatch):
    path = configuration(made, tmp_path / "run.yaml", trainer={"save_total_limit": 1})

    def dies(self, *args):
        if self.state.global_step == 4:
            raise RuntimeError("the disk is full")

    monkeypatch.setattr(ElysiumTrainer, "_save_rng_state", dies)
    with pytest.raises(RuntimeError):
        recipe.run(path)
    assert (tmp_path / "run" / "saving").exists()
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    monkeypatch.undo()
    recipe.run(path)
    assert not (tmp_path / "run" / "saving").exists()
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]


def test_micro_batches_add_up_to_the_batch(made, tmp_path):
    """The loss of a step is a mean over its answer tokens, however they are cut into micro-batches."""
    one = {"per_device_train_batch_size": 4, "max_steps": 3}
    two = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 3}
    learns = {"model": {"learns": ["projector", "language_model"]}}
    data = {"tasks": {"SOT": 1.0}, "paraphrase_share": 1.0}  # questions and answers of different lengths
    for name, options in (("one", one), ("two", two)):
        quiet = write_model(tmp_path / f"quiet-{name}", noise=0.0)
        recipe.run(configuration((quiet, made[1]), tmp_path / f"{name}.yaml", trainer=options, data=data, **learns))
    for step, loss in losses(tmp_path / "one").items():
        assert losses(tmp_path / "two")[step] == pytest.approx(loss, rel=1e-5), step
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(first[name], second[name], rtol=2e-3, atol=1e-4) for name in first)


def test_gradient_checkpointing_changes_nothing(made, tmp_path):
    quiet = write_model(tmp_path / "quiet", noise=0.0), made[1]
    recipe.run(configuration(quiet, tmp_path / "plain.yaml"))
    recipe.run(configuration(quiet, tmp_path / "checkpointed.yaml", trainer={"gradient_checkpointing": True}))
    for step, loss in losses(tmp_path / "plain").items():
        assert losses(tmp_path / "checkpointed")[step] == pytest.approx(loss, rel=1e-5), step


def test_low_rank_adapters_learn_are_resumed_and_merged(made, tmp_path, monkeypatch):
    lora = {"lora": {"r": 2, "dropout": 0.0, "targets": ["q_proj", "v_proj"]}, "learns": ["projector"]}
    whole = configuration(made, tmp_path / "whole.yaml", model=lora)
    recipe.run(whole)
    before, after = load_file(made[0] / "model.safetensors"), weights(tmp_path / "whole")
    assert before.keys() == after.keys()  # adapters are merged
    moved = {name for name in before if not torch.equal(before[name].half(), after[name].half())}
    assert {name.split(".")[0] for name in moved} == {"projector", "language_model"}
    layers = {name.split(".")[-2] for name in moved if name.startswith("language_model")}
    assert layers <= {"q_proj", "v_proj"} and layers
    kept = load_file(tmp_path / "whole" / "checkpoint-4" / "trained.safetensors")
    assert {name.split(".")[0] for name in kept} == {"projector", "language_model"}
    assert all("lora_" in name for name in kept if name.startswith("language_model"))
    assert not (tmp_path / "whole" / "checkpoint-4" / "model.safetensors").exists()
    broken = configuration(made, tmp_path / "broken.yaml", model=lora)
    monkeypatch.setattr(StopGently, "on_step_end", stop_after(3))
    with pytest.raises(KeyboardInterrupt):
        recipe.run(broken)
    monkeypatch.undo()
    recipe.run(broken)
    for step, loss in losses(tmp_path / "whole").items():
        assert losses(tmp_path / "broken")[step] == pytest.approx(loss, rel=1e-6), step
    resumed = weights(tmp_path / "broken")
    assert all(torch.equal(after[name], resumed[name]) for name in after)


def test_adapters_on_four_bit_weights_are_merged_into_the_original_ones(made, tmp_path):
    pytest.importorskip("bitsandbytes", reason="model.lora.four_bit needs bitsandbytes")
    lora = {"r": 2, "four_bit": True, "targets": ["q_proj", "v_proj"]}
    path = configuration(made, tmp_path / "run.yaml", model={"lora": lora, "learns": ["projector"]})
    recipe.run(path)
    before, after = load_file(made[0] / "model.safetensors"), weights(tmp_path / "run")
    assert before.keys() == after.keys() and all(after[name].dtype == torch.float16 for name in after)
    moved = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert {name.split(".")[0] for name in moved} == {"projector", "language_model"}
    assert all(name.split(".")[-2] in ("q_proj", "v_proj") for name in moved if name.startswith("language_model"))
    for name in moved:
        if name.startswith("language_model"):  # what was added has rank 2: no rounding to 4 bits is in it
            singular = torch.linalg.svdvals(after[name].float() - before[name])
            assert singular[2] < 0.1 * singular[1], name


def stop_after(step):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step:
            self.asked = control.should_save = control.should_training_stop = True

    return on_step_end


def test_targets_that_no_layer_has_are_said(made, tmp_path):
    path = configuration(made, tmp_path / "run.yaml", model={"lora": {"targets": ["magic"]}})
    with pytest.raises(InputError, match=r"model\.lora\.targets"):
        recipe.run(path)


def test_parts_have_learning_rates_of_their_own(made, tmp_path):
    assert rate_of("vision.tower.x", {"vision": 0.1, "vision.tower": 0.5}) == 0.5 and rate_of("a", {"b": 2.0}) == 1.0
    named = [("vision.a", torch.nn.Parameter(torch.zeros(2))), ("projector.b", torch.nn.Parameter(torch.zeros(2)))]
    groups = part_groups(named, 0.2, {"vision": 0.1}, 0.3, {"projector.b"})
    told = [(g["params"][0] is named[i][1], g["lr"], g["weight_decay"]) for i, g in enumerate(groups)]
    assert told == [(True, pytest.approx(0.02), 0.0), (True, 0.2, 0.3)]
    rates = {"learns": ["projector", "language_model"], "learning_rates": {"projector": 1e-9}}
    recipe.run(configuration(made, tmp_path / "run.yaml", model=rates))
    assert changed(load_file(made[0] / "model.safetensors"), weights(tmp_path / "run")) == {"language_model"}


def test_the_number_of_kept_tokens_is_drawn_for_each_batch(made, tmp_path, monkeypatch):
    seen = []
    honest = ElysiumForConditionalGeneration.select_tokens

    def notes(self, tokens, k, context):
        seen.append(k)
        return honest(self, tokens, k, context)

    monkeypatch.setattr(ElysiumForConditionalGeneration, "select_tokens", notes)
    options = {"tokens_per_frame": [1, 4, 16]}
    recipe.run(configuration(made, tmp_path / "run.yaml", model=options, trainer={"max_steps": 12, "save_steps": 12}))
    assert set(seen) == {1, 4, 16} and len(seen) == 12
    with pytest.raises(InputError, match="tokens_per_frame has 17, but a frame has 16"):
        recipe.run(configuration(made, tmp_path / "more.yaml", model={"tokens_per_frame": [17]}))


def notes_samples(monkeypatch):
    """A list that every sample drawn from now on is appended to."""
    seen, honest = [], SampleDataset.__getitem__

    def notes(self, index):
        seen.append(honest(self, index))
        return seen[-1]

    monkeypatch.setattr(SampleDataset, "__getitem__", notes)
    return seen


def test_chats_and_tracks_are_mixed_by_weight_and_text_alone_trains(made, tmp_path, monkeypatch):
    folder = tmp_path / "chats"
    chats = source(write_chats(folder), folder, weight=3.0)
    path = configuration(
        made, tmp_path / "run.yaml", data={"sources": [source(made[1]), chats]},
        trainer={"max_steps": 24, "save_steps": 24},
    )  # fmt: skip
    drawn = notes_samples(monkeypatch)
    recipe.run(path)
    lines = [line for line in log_lines(tmp_path / "run") if "loss" in line]
    assert len(lines) == 24 and all(line["loss"] > 0 for line in lines)
    told = [sample.id.split("[")[0] for sample in drawn]
    assert 24 < told.count("chats") < 48 and set(told) == {"chats", "records"}


def test_a_source_may_have_its_own_number_of_frames(made, tmp_path, monkeypatch):
    folder = made[1].parent
    lines = [json.loads(line) for line in write_chats(tmp_path / "chats", "v0/0.png").read_text().splitlines()]
    names = [f"v0/{i}.png" for i in range(6)]
    chats = write_lines(tmp_path / "long.jsonl", [{**line, "frames": names} for line in lines])
    drawn = notes_samples(monkeypatch)
    recipe.run(configuration(
        made, tmp_path / "run.yaml", data={"sources": [source(made[1]), source(chats, folder, frames=4)]},
        trainer={"max_steps": 12, "save_steps": 12},
    ))  # fmt: skip
    frames = {name: {len(s.features) for s in drawn if s.id.startswith(name)} for name in ("records", "long")}
    assert frames == {"records": {2}, "long": {4}}
    (spread,) = {tuple(key[2] for key in s.frame_keys) for s in drawn if s.id.startswith("long")}
    assert spread == (0, 2, 3, 5)


def test_nan_stops_the_run_and_names_the_samples(made, tmp_path, capsys):
    model = write_model(tmp_path / "broken-model")
    loaded = ElysiumForConditionalGeneration.from_pretrained(model)
    with torch.no_grad():
        loaded.projector[0].weight[0, 0] = float("nan")
    loaded.save_pretrained(model)
    path = configuration((model, made[1]), tmp_path / "run.yaml")
    with pytest.raises(TrainingError, match="The loss of step 1 is nan; the 2 samples"):
        recipe.run(path)
    told = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert told["step"] == 1 and len(told["ids"]) == 2 and all(i.startswith("records[") for i in told["ids"])
    assert main(["train", str(path)]) == 2
    assert "bad_batch.json" in capsys.readouterr().err


def test_frames_that_do_not_fit_are_dropped_and_counted(made, tmp_path, capsys, monkeypatch):
    """A context for some frames of six: the answers stay whole, and their boxes are as many as the frames."""
    seen = notes_samples(monkeypatch)
    data = {"max_tokens": 190, "tasks": {"SOT": 1.0}}
    recipe.run(configuration(made, tmp_path / "run.yaml", data=data, phases=[{"until": 1.0, "frames": 6}]))
    dropped = sum(sample.dropped_frames for sample in seen)
    assert dropped > 0 and f"dropped frames: {dropped}" in capsys.readouterr().out
    assert log_lines(tmp_path / "run")[-2]["dropped_frames"] == dropped
    for sample in seen:
        assert sample.answer.count("[") == len(sample.features) == 6 - sample.dropped_frames > 0


def test_samples_that_never_fit_stop_the_run(made, tmp_path):
    with pytest.raises(InputError, match=r"100 clips in a row cannot be used\. .* too long even with one frame"):
        recipe.run(configuration(made, tmp_path / "run.yaml", data={"max_tokens": 20}))


def test_missing_images_are_said_first_or_skipped_and_counted(made, tmp_path, capsys):
    folder = tmp_path / "data"
    records = write_records(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty' holds none of the frames .* \(for example 'v0/0.png'\)"):
        recipe.run(write_config(
            tmp_path / "none.yaml", model={"path": made[0]}, data={"sources": [source(records, tmp_path / "empty")]}
        ))  # fmt: skip
    shutil.rmtree(folder / "v1")
    recipe.run(configuration((made[0], records), tmp_path / "some.yaml", trainer={"max_steps": 8, "save_steps": 8}))
    assert "skipped clips:" in capsys.readouterr().out
    shutil.rmtree(folder / "v2")
    first = json.loads(records.read_text().splitlines()[0])
    write_lines(folder / "v0.jsonl", [{**first, "frames": [], "box": []}])
    with pytest.raises(InputError, match=r"record 1, frames: is empty"):
        recipe.run(write_config(
            tmp_path / "no-frames.yaml", model={"path": made[0]}, data={"sources": [source(folder / "v0.jsonl")]}
        ))  # fmt: skip


def test_defective_records_are_said_first_or_skipped_and_counted(made, tmp_path, capsys):
    lines = [json.loads(line) for line in made[1].read_text().splitlines()]
    folder = made[1].parent
    far = [dict(line, id=f"{i}-{line['id']}") for i in range(4) for line in lines]
    far[-1] = dict(far[-1], vid="broken", frames=["v0/0.png"], box=[[0.5, 0.5, 0.1, 0.1]])
    run = write_config(
        tmp_path / "run.yaml", model={"path": made[0]}, trainer={"max_steps": 8},
        data={"sources": [source(write_lines(tmp_path / "far.jsonl", far), folder)]},
    )  # fmt: skip
    recipe.run(run)
    told = capsys.readouterr().out
    assert "skipped clips:" in told and len(losses(tmp_path / "run")) == 8
    assert "times: " in told and "far.jsonl, record 24, box[0]: is inverted" in told
    path = write_lines(tmp_path / "first.jsonl", [dict(lines[0], box=[[10, 20, 30, 40]] * 6), *lines])
    with pytest.raises(InputError, match=r"first\.jsonl, record 1, box: the boxes look like per cent"):
        recipe.run(write_config(
            tmp_path / "first.yaml", model={"path": made[0]}, data={"sources": [source(path, folder)]}
        ))  # fmt: skip


def test_tracks_of_the_same_frames_are_one_clip_and_each_chat_is_one():
    groups, is_chat = np.array([7, -3, 7, 5, -3, 7]), np.array([0, 0, 0, 1, 0, 1], bool)
    order, starts = clips_of(groups, is_chat)
    clips = [order[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert clips == [[0, 2], [1, 4], [3], [5]]
    assert [part.tolist() for part in clips_of(groups[:0], is_chat[:0])] == [[], [0]]


def test_epochs_count_records(made, tmp_path):
    """Three clips in batches of two, twice: three steps."""
    path = configuration(made, tmp_path / "run.yaml", trainer={"max_steps": -1, "num_train_epochs": 2})
    recipe.run(path)
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3]


def test_wrong_trainer_keys_are_said(made, tmp_path):
    with pytest.raises(InputError, match="trainer: an unexpected keyword argument 'learning_rates'"):
        recipe.run(configuration(made, tmp_path / "run.yaml", trainer={"learning_rates": 1}))


@pytest.mark.parametrize(("options", "sentence"), [
    ({"max_steps": 2.5}, r"trainer\.max_steps is 2\.5. It must be a whole number"),
    ({"per_device_train_batch_size": 0}, r"per_device_train_batch_size is 0. It must be a whole number, 1 or more"),
    ({"gradient_accumulation_steps": "two"}, r"gradient_accumulation_steps is 'two'"),
    ({"learning_rate": "fast"}, r"learning_rate is 'fast'. It must be a number"),
    ({"load_best_model_at_end": True}, r"load_best_model_at_end does not go here: the curriculum ends with the last"),
    ({"max_steps": None}, r"trainer\.max_steps is None"),
])  # fmt: skip
def test_trainer_values_that_would_fail_later_are_said_first(made, tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        recipe.run(configuration(made, tmp_path / "run.yaml", trainer=options))


def test_a_rate_for_no_part_is_said(made, tmp_path):
    path = configuration(made, tmp_path / "run.yaml", model={"learning_rates": {"tower": 0.1}})
    with pytest.raises(
        InputError, match=r"model\.learning_rates: no parameter begins with 'tower'. The parts are vision"
    ):
        recipe.run(path)


def test_an_epoch_shows_every_clip_once(tmp_path):
    """Seven clips, one question about each; the second time through in another order."""
    clips = RecordClips(write_records(tmp_path, videos=7, things=1), tmp_path, size_px=14)
    asked = DataSection(tasks={"SOT": 1.0})
    data = SampleDataset(clips, 14, 1, (Phase(until=1.0, frames=2),), asked, seed=3, region_mark=False)
    order = [data[index].frame_keys[0][1] for index in range(14)]
    assert sorted(order[:7]) == sorted(order[7:]) == list(range(7)) and order[:7] != order[7:]


def test_what_learns_is_in_float32_and_the_rest_as_it_was(made, tmp_path, monkeypatch):
    seen = {}

    def notes(self, *args, **kwargs):
        seen.update({name: (p.dtype, p.requires_grad) for name, p in self.model.named_parameters()})
        raise KeyboardInterrupt

    monkeypatch.setattr(ElysiumTrainer, "train", notes)
    model = {"dtype": "bfloat16", "learns": ["projector"], "lora": {"r": 2, "targets": ["q_proj"]}}
    with pytest.raises(KeyboardInterrupt):
        recipe.run(configuration(made, tmp_path / "run.yaml", model=model))
    assert {dtype for dtype, learns in seen.values() if learns} == {torch.float32}
    frozen = {dtype for name, (dtype, learns) in seen.items() if not learns and name.startswith("language_model")}
    assert frozen == {torch.bfloat16}


def test_frames_without_labels_teach_the_gate_nothing(made, tmp_path):
    """A chat does not say where things are, which is not to say that there are none."""
    folder = tmp_path / "chats"
    shutil.copytree(made[1].parent / "v0", folder / "v0")
    path = write_config(
        tmp_path / "run.yaml", model={"path": made[0]}, loss={"gate": 1.0},
        data={"sources": [source(write_chats(folder, "v0/0.png"))]},
    )  # fmt: skip
    recipe.run(path)
    lines = [line for line in log_lines(tmp_path / "run") if "loss" in line]
    assert len(lines) == 4
    assert all(
        line["loss"] == pytest.approx(line["loss_words"], rel=1e-3) and "loss_gate" not in line for line in lines
    )


def test_another_number_of_processes_or_another_first_stage_is_refused(made, tmp_path, monkeypatch):
    path = configuration(made, tmp_path / "run.yaml")
    recipe.run(path)
    kept = tmp_path / "run" / "run_config.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "processes": 2}))
    with pytest.raises(InputError, match="processes was 2, is 1"):
        recipe.run(path)
    staged = configuration(made, tmp_path / "staged.yaml", stages=[{"name": "one"}, {"name": "two"}])
    recipe.run(staged)
    with pytest.raises(
        InputError, match=r"one/final was begun with another configuration: seed was 0, is 5.*take .*final"
    ):
        recipe.run(staged, ["stages.0.seed=5"])


def test_packing_needs_a_mask_that_attention_obeys(made, tmp_path):
    model = ElysiumForConditionalGeneration.from_pretrained(made[0])
    model.language_model.set_attn_implementation("eager")
    asked = load_stages(configuration(made, tmp_path / "run.yaml", data={"packing": True}))[0]
    with pytest.raises(InputError, match="packing needs attention by sdpa, not eager"):
        check_fits(asked, model)


def test_a_signal_to_the_whole_group_saves_despite_loader_processes(made, tmp_path):
    """As a scheduler sends it: a loader's process must not die of it before its parent has saved."""
    trainer = {"dataloader_num_workers": 1, "max_steps": 4000, "save_steps": 4000}
    path = configuration(made, tmp_path / "run.yaml", trainer=trainer)
    command = [sys.executable, "-m", "elysium", "train", str(path)]
    with (tmp_path / "out.txt").open("w") as out:
        run = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not ((tmp_path / "run" / "log.jsonl").exists() and len(losses(tmp_path / "run")) >= 3):
        assert run.poll() is None and time.monotonic() < deadline, (tmp_path / "out.txt").read_text()[-2000:]
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(120) == 130, (tmp_path / "out.txt").read_text()[-2000:]
    stopped = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / f"checkpoint-{stopped}").is_dir() and stopped < 4000


def test_a_broken_record_in_a_loader_process_is_told_in_one_sentence(made, tmp_path):
    path = configuration(
        made, tmp_path / "run.yaml", data={"max_tokens": 20}, trainer={"dataloader_num_workers": 1}
    )  # fmt: skip
    command = [sys.executable, "-m", "elysium", "train", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "error: records: 100 clips in a row cannot be used" in run.stderr and "Traceback" not in run.stderr
