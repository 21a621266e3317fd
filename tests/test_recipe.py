"""A whole training run at toy size: it makes a model that loads and tracks, and an interrupted run goes on."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elysium.errors import InputError
from elysium.inference.pipelines import Elysium
from elysium.model.presets import build_nano, mobilenet_state, train_nano_tokenizer
from elysium.training import features, materials, recipe
from elysium.training.optimizer import CpuMuon, MuonAdamW, is_matrix
from elysium.training.starting import freeze
from elysium.training.trainer import ElysiumTrainer
from training_kit import losses

CONFIG = """
output_dir: {out}
threads: 1
model: {{tower_weights: {weights}}}
data: {{cache_dir: {cache}, train_clips: 8, val_clips: 4, still_clips: 4, group_size: 2, synth: {{max_objects: 2}},
        tasks: {{SOT: 0.4, REC: 0.3, VIDEO_QA: 0.3}}}}
phases: [{{until: 0.5, frames: 2}}, {{until: 1.0, frames: 3}}]
muon_lr: 1.0e-3
trainer: {{max_steps: 4, per_device_train_batch_size: 2, learning_rate: 1.0e-3, logging_steps: 1, save_steps: 2,
          eval_strategy: steps, eval_steps: 4, disable_tqdm: true}}
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Random tower weights in the usual PyTorch layout, and a configuration writer; all runs share a cache."""
    folder = tmp_path_factory.mktemp("recipe")
    torch.manual_seed(0)
    from transformers import MobileNetV2Config, MobileNetV2Model

    tower = MobileNetV2Model(MobileNetV2Config(tf_padding=False), add_pooling_layer=False)
    torch.save({f"t{i}": v for i, v in enumerate(tower.state_dict().values()) if v.ndim}, folder / "tower.pt")

    def config(name: str):
        path = folder / f"{name}.yaml"
        path.write_text(CONFIG.format(out=folder / name, weights=folder / "tower.pt", cache=folder / "cache"))
        return path, folder / name

    return config


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(features, "SHARD_CLIPS", 4)
    monkeypatch.setattr(materials, "VAL_SAMPLES", 8)


def test_a_run_makes_a_model_that_tracks(workshop):
    path, out = workshop("whole")
    final = recipe.run(path)
    assert final == out / "final" and sorted(losses(out)) == [1, 2, 3, 4]
    model = Elysium.from_pretrained(final)
    result = model.track(np.zeros((3, 60, 80, 3), np.uint8), boxes=[[10, 10, 40, 50]])
    assert result.num_frames == 3 and result.tracks[0].states[0] == "tracked"
    assert "circle" in model.tracking["known_words"] or model.tracking["known_words"]


def test_an_interrupted_run_goes_on_to_the_same_losses(workshop, monkeypatch):
    whole, out_whole = workshop("whole")
    if not (out_whole / "log.jsonl").exists():
        recipe.run(whole)
    path, out = workshop("broken")
    honest, calls = ElysiumTrainer.compute_loss, []

    def stops(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return honest(self, *args, **kwargs)

    monkeypatch.setattr(ElysiumTrainer, "compute_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        recipe.run(path)
    monkeypatch.setattr(ElysiumTrainer, "compute_loss", honest)
    recipe.run(path)  # from checkpoint-2
    assert losses(out).keys() == losses(out_whole).keys()
    for step, loss in losses(out_whole).items():
        assert losses(out)[step] == pytest.approx(loss, rel=1e-6), step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(number, workshop, monkeypatch, capsys):
    whole, out_whole = workshop("whole")
    if not (out_whole / "log.jsonl").exists():
        recipe.run(whole)
    path, out = workshop(f"signal{number}")
    honest, calls = ElysiumTrainer.compute_loss, []

    def signals(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # no checkpoint is due after step 3
            os.kill(os.getpid(), number)
        return honest(self, *args, **kwargs)

    before = signal.getsignal(number)
    monkeypatch.setattr(ElysiumTrainer, "compute_loss", signals)
    with pytest.raises(KeyboardInterrupt):
        recipe.run(path)
    assert signal.getsignal(number) is before and (out / "checkpoint-3").is_dir() and not (out / "final").exists()
    assert "stopped after step 3; the same command goes on" in capsys.readouterr().out
    told = r"another configuration: muon_lr was 0.001, is 0.5.*take .*run_config.json away"
    with pytest.raises(InputError, match=told):
        recipe.run(path, ["muon_lr=0.5"])
    kept = json.loads((out / "run_config.json").read_text())
    del kept["data"]["max_interval"]  # as an older version would have written it, before there was that key
    (out / "run_config.json").write_text(json.dumps(kept))
    recipe.run(path)
    assert "resuming from" in capsys.readouterr().out
    assert losses(out).keys() == losses(out_whole).keys()
    for step, loss in losses(out_whole).items():
        assert losses(out)[step] == pytest.approx(loss, rel=1e-6), step


def test_stages_teach_what_they_say_and_each_goes_on_from_the_one_before(workshop, capsys):
    path, out = workshop("staged")
    path.write_text(path.read_text() + (
        "stages:\n- {name: selector, model: {learns: [selector, query_embeddings]}, loss: {answers: false}}\n"
        "- {name: names, model: {learns: [projector]}, data: {tasks: {REG: 1.0}}, phases: [{until: 1.0, frames: 1}],\n"
        "   loss: {answers: false, gate: 0.0, choice: 0.0, votes: 0.0, names: 1.0}}\n"
        "- {name: all}\n"
    ))  # fmt: skip
    assert recipe.run(path) == out / "all" / "final"
    start = load_file(out / "selector" / "start" / "model.safetensors")
    first = load_file(out / "selector" / "final" / "model.safetensors")
    named = load_file(out / "names" / "final" / "model.safetensors")
    second = load_file(out / "all" / "final" / "model.safetensors")
    changed = {name.split(".")[0] for name in start if not torch.equal(start[name].half(), first[name])}
    assert {"selector"} <= changed <= {"selector", "query_embeddings"}  # a few steps may ask nothing in words
    assert {name.split(".")[0] for name in first if not torch.equal(first[name], named[name])} == {"projector"}
    logged = [json.loads(line) for line in (out / "names" / "log.jsonl").read_text().splitlines()]
    assert any("loss_names" in line for line in logged) and any("val_REC_named" in line for line in logged)
    assert not any("loss_gate" in line or "loss_words" in line for line in logged)
    changed = {name.split(".")[0] for name in named if not torch.equal(named[name], second[name])}
    assert {"selector", "projector", "annotation", "language_model"} <= changed and "vision" not in changed
    logged = [json.loads(line) for line in (out / "selector" / "log.jsonl").read_text().splitlines()]
    assert all("loss_numbers" not in line for line in logged) and any("val_REC_voted" in line for line in logged)
    assert not any("val_REC" in line for line in logged)
    with pytest.raises(InputError, match="no parameter begins with 'magic'"):
        freeze(build_nano(train_nano_tokenizer(["a"], 420), workshop("x")[0].parent / "tower.pt"), ("magic",))


def test_every_weight_of_the_tower_is_found_and_others_are_refused(workshop, tmp_path):
    tower = build_nano(train_nano_tokenizer(["a"], 420), workshop("x")[0].parent / "tower.pt").vision.tower
    saved = torch.load(workshop("x")[0].parent / "tower.pt", weights_only=True)
    found = (value for value in tower.state_dict().values() if value.ndim)
    assert all(torch.equal(a, b) for a, b in zip(found, saved.values(), strict=True))
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(Exception, match="is no MobileNetV2"):
        mobilenet_state(tower, tmp_path / "other.pt")


def test_missing_steps_and_assets_are_said(workshop):
    path, _ = workshop("nosteps")
    with pytest.raises(InputError, match="max_steps"):
        recipe.run(path, ["trainer.max_steps=0"])
    with pytest.raises(InputError, match=r"data\.assets is /nowhere, which does not exist"):
        recipe.run(path, ["data.assets=/nowhere"])


def test_a_cache_of_another_tower_is_refused(workshop, tmp_path):
    path, out = workshop("whole")
    if not (out / "final").exists():
        recipe.run(path)
    model = [f"model.path={out / 'final'}", "model.learns=[vision]"]
    with pytest.raises(InputError, match=r"train holds frames of shape \(\d+,\), made for another model"):
        recipe.run(path, [f"output_dir={tmp_path}", *model, "muon_lr=0"])


def test_clips_made_by_something_else_are_refused(workshop, tmp_path):
    path, out = workshop("whole")
    if not (out / "final").exists():
        recipe.run(path)
    with pytest.raises(InputError, match="train holds clips that were made with another synth"):
        recipe.run(path, [f"output_dir={tmp_path}", "data.synth.max_objects=3"])


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (16, 16)])
def test_muon_on_a_cpu_is_pytorchs_in_float32(shape, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    torch.manual_seed(0)
    start, grads = torch.randn(*shape), [torch.randn(*shape) for _ in range(4)]
    ends = []
    for kind in (torch.optim.Muon, CpuMuon):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = kind([parameter], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for grad in grads:
            parameter.grad = grad.clone()
            optimizer.step()
        ends.append((parameter.detach(), optimizer.state_dict()))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=1e-5, atol=1e-6)
    assert (ends[0][0] - start).abs().max() > 0.1
    torch.testing.assert_close(ends[0][1]["state"], ends[1][1]["state"], rtol=0, atol=0)


def test_muon_takes_matrices_and_survives_a_save():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Linear(16, 4))
    assert [is_matrix(n, p) for n, p in module.named_parameters()] == [True, False, False, False]

    def trained(steps: int, reload_at: int | None) -> torch.Tensor:
        copy = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.Linear(16, 4))
        copy.load_state_dict(module.state_dict())
        optimizer = MuonAdamW(copy.named_parameters(), 0.01, 0.01)
        for step in range(steps):
            if step == reload_at:
                state = optimizer.state_dict()
                optimizer = MuonAdamW(copy.named_parameters(), 0.5, 0.5)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            copy(torch.ones(3, 12) * (step + 1)).square().sum().backward()
            optimizer.step()
        return copy[0].weight.detach()

    assert torch.equal(trained(4, None), trained(4, 2))
    assert not torch.equal(trained(4, None), module[0].weight)
