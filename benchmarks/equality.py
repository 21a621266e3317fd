"""Are answers equal? Drafted against undrafted and the reference's, about clips made by program; for fast.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.inference.answers import Answer, Request
from elysium.inference.decoding import Decoder
from elysium.inference.pipelines import Elysium
from elysium.inference.reference import decode_reference
from elysium.language.dialects import ELYSIUM
from elysium.language.prompts import Task, build_prompt, build_question

Figures = dict[str, Any]
WIDE = 400  # tokens for drafts in a forward: each row of a batch has some, where a CPU by itself would give them none


def requests_about(number: int, generator: ClipGenerator, marks: bool = True) -> list[Request]:
    """SOT of every thing in a clip made by program, and RSOT of those that have words."""
    clip = generator.generate(number)
    frames, count, asked = list(clip.frames), len(clip.frames), []
    for thing in clip.objects:
        if not np.isnan(thing.boxes_xyxyn[0]).any():
            bins = np.round(thing.boxes_xyxyn[0] * 100).astype(int)
            question = build_question(Task.SOT, box_text=ELYSIUM.format_box(bins), region_mark=marks)
            region: Any = (0, tuple(float(value) for value in bins / 100))
            asked.append(Request(build_prompt(Task.SOT, count, question), frames, [region], num_boxes=count))
        if thing.expressions:
            prompt = build_prompt(Task.RSOT, count, build_question(Task.RSOT, expression=thing.expressions[0]))
            asked.append(Request(prompt, frames, query=thing.expressions[0], num_boxes=count))
    return asked


def clips(assets: Path | None) -> ClipGenerator:
    kind = SynthConfig(size_px=224, num_frames=8, max_objects=4, patch_share=0.0)
    return ClipGenerator(kind, AssetLibrary.from_folder(assets, "val"), seed=77)


def equal(model: Elysium, assets: Path | None, number: int, *, free: bool = False) -> Figures:
    """Drafted answers compared with undrafted ones, and some with the reference's."""
    plain, fast, wide = (Decoder(model.model, model.processor, spare=spare) for spare in (0, None, WIDE))
    generator, pairs, slow = clips(assets), [], []
    for clip in range(number):
        asked = requests_about(clip, generator, marks=model.engine.region_marks)
        with torch.inference_mode():
            drafted = [answer for request in asked for answer in fast.decode([request], free=free)]
            undrafted = plain.decode(asked, free=free)
            pairs += list(zip([*drafted, *wide.decode(asked, free=free)], undrafted * 2, strict=True))
        if clip % 10 == 0:
            slow += list(zip(drafted, (decode_reference(plain, one, free=free) for one in asked), strict=True))
    return {
        "clips": number, **compared(pairs),
        **{f"reference_{key}": value for key, value in compared(slow).items()},
    }  # fmt: skip


def compared(pairs: list[tuple[Answer, Answer]]) -> Figures:
    off = [float(np.abs(one.box_scores - other.box_scores).max()) for one, other in pairs if same(one, other)]
    boxes = [one.boxes_bins for one, _ in pairs], [other.boxes_bins for _, other in pairs]
    frames = np.isclose(np.concatenate(boxes[0]), np.concatenate(boxes[1]), equal_nan=True).all(axis=1)
    return {
        "answers": len(pairs), "equal": sum(same(*pair) for pair in pairs),
        "boxes": len(frames), "equal_boxes": int(frames.sum()), "largest_score_difference": max(off),
    }  # fmt: skip


def same(one: Answer, other: Answer) -> bool:
    return one.token_ids == other.token_ids
