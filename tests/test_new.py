"""`elysium new`: the command writes what `compose` makes, says what is wrong, and leaves nothing half done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from composition_kit import language_folder, parts, tower_folder
from elysium.cli import new
from elysium.cli.main import main
from elysium.inference.loading import load_pretrained
from elysium.model.compose import compose
from elysium.model.configuration import ElysiumConfig, Gate, ProjectorType, SelectorConfig
from elysium.pretrained import no_progress_bars


def options(folder: Path) -> list[str]:
    with no_progress_bars():
        vision, language = parts(folder)
    return ["new", "--vision", vision, "--llm", language, "--select", "5"]


def test_it_writes_what_compose_makes(tmp_path, capsys):
    command, out = options(tmp_path), tmp_path / "deep" / "out"
    more = ["--gate", "prompt", "--projector", "linear", "--set", "selector.hidden_size=16", "--set", "region_tokens=1"]
    assert main([*command, *more, "--seed", "3", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n" and "of which 5 of 16 visual tokens are kept" in said.err
    torch.manual_seed(3)
    expected, _ = compose(
        command[2], command[4], selector={"num_tokens": 5, "gate": "prompt", "hidden_size": 16},
        projector_type="linear", region_tokens=1,
    )  # fmt: skip
    model, processor = load_pretrained(str(out), torch.float32)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())
    assert (processor.num_image_tokens, processor.num_region_tokens) == (5, 1)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_filled_and_numbers_are_halved(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert main([*options(tmp_path), "--dtype", "bfloat16", "--quiet", str(out)]) == 0
    assert capsys.readouterr().err == ""
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["selector"]["num_tokens"] == 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--select", "17"], "The selector keeps 17 of 16 visual tokens. Set its num_tokens to 1..16"),
        (["--select", "0"], "selector.num_tokens is 0"),
        (["--gate", "magic"], "Unknown selector gate 'magic'. Use one of mlp,"),
        (["--projector", "magic"], "projector_type: Input should be 'mlp2x_gelu' or 'linear'"),
        (["--set", "magic=1"], "magic: Extra inputs are not permitted"),
        (["--set", "selector.magic=1"], "The selector has no setting magic"),
        (["--set", "magic"], "Cannot read the override 'magic'"),
        (["--dtype", "int8"], "Unknown dtype 'int8'"),
        (["--vision", "nowhere"], "There is no model 'nowhere'"),
        (["--llm", "nowhere.gguf"], "There is no model 'nowhere.gguf'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, told, tmp_path, capsys):
    assert main([*options(tmp_path), *change, str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and said.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["language", "tower"]


def test_parts_in_each_others_place_are_refused(tmp_path, capsys):
    vision, language = tower_folder(tmp_path)[0], language_folder(tmp_path)[0]
    assert main(["new", "--vision", language, "--llm", language, str(tmp_path / "out")]) == 2
    assert "is no vision model but 'llama'" in capsys.readouterr().err
    assert main(["new", "--vision", vision, "--llm", vision, str(tmp_path / "out")]) == 2
    assert "is no causal language model but 'clip'" in capsys.readouterr().err


def test_a_folder_in_use_is_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(new, "_write", lambda *_: pytest.fail("loaded"))
    command = options(tmp_path)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path, tmp_path / "file"):
        assert main([*command, str(out)]) == 2
        assert "is not an empty folder. Name a new one." in capsys.readouterr().err
    assert main([*command, str(tmp_path / "file" / "out")]) == 2
    assert "No folder can be made in" in capsys.readouterr().err


def test_nothing_is_left_of_a_folder_that_cannot_be_written_whole(tmp_path, monkeypatch):
    from elysium.model import ElysiumProcessor

    def full(self, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ElysiumProcessor, "save_pretrained", full)
    assert main([*options(tmp_path), str(tmp_path / "out")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["language", "tower"]


def test_the_help_tells_the_defaults_and_choices_of_the_configuration():
    from typing import get_args

    from elysium.cli.main import app

    told = {p.name: p.help for p in get_command(app).commands["new"].params}
    assert told["select"].endswith(f"Default: {SelectorConfig().num_tokens}.")
    assert told["gate"].endswith(f"Default: {SelectorConfig().gate}.")
    assert told["projector"].endswith(f"Default: {ElysiumConfig().projector_type}.")
    assert all(name in told["gate"] for name in get_args(Gate))
    assert all(name in told["projector"] for name in get_args(ProjectorType))
