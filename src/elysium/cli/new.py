"""`elysium new`: a model from a vision tower and a language model. Knows folders; what fits together is known by
`elysium.model.compose`, what can be set by `elysium.config.ComposeSection`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elysium.cli import common
from elysium.errors import InputError

if TYPE_CHECKING:
    from elysium.model import ElysiumForConditionalGeneration

DTYPES = ("float32", "bfloat16", "float16")


def new(
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder that is empty or not there.", show_default=False)
    ],
    vision: Annotated[
        str,
        typer.Option(
            "--vision",
            metavar="NAME|PATH",
            help="Folder or hub id of a vision tower (CLIP, SigLIP, DINOv2, ...).",
            show_default=False,
        ),
    ],
    llm: Annotated[
        str,
        typer.Option(
            "--llm",
            metavar="NAME|PATH",
            help="Folder or hub id of a causal language model with its tokenizer; or a GGUF file.",
            show_default=False,
        ),
    ],
    select: Annotated[
        int | None,
        typer.Option(
            "--select", metavar="K", help="Visual tokens kept of a frame. Default: 108.", show_default=False
        ),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate",
            metavar="NAME",
            help="What chooses them: mlp, legacy, fixed, uniform, average or prompt. Default: mlp.",
            show_default=False,
        ),
    ] = None,
    projector: Annotated[
        str | None,
        typer.Option(
            "--projector", metavar="NAME", help="mlp2x_gelu or linear. Default: mlp2x_gelu.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of model.compose in training configurations, such as selector.annotate=true. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help=f"Of the weights: {', '.join(DTYPES)}.")
    ] = "float32",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the untrained parts.")] = 0,
    quiet: common.Quiet = False,
) -> int:
    """Put a model together from any vision tower and any causal language model; selector and projector are untrained.

    Example: elysium new --vision openai/clip-vit-large-patch14-336 --llm lmsys/vicuna-7b-v1.5 runs/mine
    """
    from elysium.config_files import composition
    from elysium.files import check_free_folder

    values = {"vision": vision, "language": llm, "selector": _given(num_tokens=select, gate=gate)}
    section = composition({**values, **_given(projector_type=projector)}, settings or [])
    if dtype not in DTYPES:
        raise InputError(f"Unknown dtype {dtype!r}", f"Use {', '.join(DTYPES)}.")
    check_free_folder(output)
    model = _write(section.model_dump(exclude_none=True), dtype, seed, output)
    if not quiet:
        print(_summary(model), file=sys.stderr)
    print(output)
    return common.DONE


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _write(parts: dict[str, Any], dtype: str, seed: int, output: Path) -> ElysiumForConditionalGeneration:
    """Compose and save. Raises ModelError, OutputError; then nothing is left of it."""
    import torch

    from elysium.files import atomic_folder
    from elysium.model.compose import compose
    from elysium.pretrained import silence

    torch.manual_seed(seed)
    model, processor = compose(**parts, dtype=getattr(torch, dtype))
    with atomic_folder(output) as folder, silence():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return model


def _summary(model: ElysiumForConditionalGeneration) -> str:
    loaded = ("vision.", "language_model.")
    fresh = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(loaded))
    kept = f"{model.config.selector_config.num_tokens} of {model.vision.num_tokens}"
    return (
        f"{model.num_parameters() / 1e6:.1f} million parameters, {fresh / 1e6:.1f} of them untrained; "
        f"frames of {model.config.image_size} pixels, of which {kept} visual tokens are kept"
    )
