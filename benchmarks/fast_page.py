"""The tables of docs/speed.md, of what fast.py has measured."""

from __future__ import annotations

from typing import Any

from pages import table

Figures = dict[str, Any]
TARGET = {"forwards": "at most 3", "one": "3", "many": "12", "large": "4", "memory": "at most the same"}


def tables(figures: Figures) -> dict[str, str]:
    """By the names of their marks, those whose cases have all been measured."""
    found = {}
    if all(case in figures for case in ("track", "objects")):
        found["fast"] = table(["work", "reference", "fast", "target"], speed_rows(figures))
    if all(case in figures for case in ("track", "floor")):
        found["where"] = table(["processor time per frame, ms", "reference", "fast", "at best"], where(figures))
    known = [key for key in KINDS if key in figures]
    kinds = [row for key in known for row in equal_rows(KINDS[key], figures[key])]
    if kinds:
        heads = ["model", "against", "answers", "equal", "boxes equal", "scores off by at most"]
        found["equal"] = table(heads, kinds)
    return found


KINDS = {
    "equal": "nano", "compat": "released layout, trained", "compat_free": "the same without the grammar",
    "bfloat16": "nano in bfloat16",
}  # fmt: skip


def equal_rows(name: str, figures: Figures) -> list[list[str]]:
    return [
        [
            name, against, f"{figures[f'{key}answers']:,}", f"{figures[f'{key}equal']:,}",
            f"{figures[f'{key}equal_boxes']:,} of {figures[f'{key}boxes']:,}",
            f"{figures[f'{key}largest_score_difference']:.1g}",
        ]
        for key, against in (("", "undrafted"), ("reference_", "reference"))
    ]  # fmt: skip


PARTS = {
    "tower": "vision tower", "selector": "selector", "prompt": "prompt, rest of the model",
    "tokens": "tokens of answers", "scaling": "scaling frames", "drafts": "drafts", "choosing": "choosing tokens",
    "other": "reading frames, windows, all else",
}  # fmt: skip


def where(figures: Figures) -> list[list[str]]:
    """Each part's time, and the least that it could take."""
    track, least = figures["track"], figures["floor"]["ms_per_frame"]
    rows = []
    for key, name in {"seconds": "all", **PARTS}.items():
        spent = [f"{1e3 * track[way][key] / track[way]['frames']:.1f}" for way in ("reference", "fast")]
        best = f"{least[key]:.1f}" if key in least else ""
        rows.append([name, *spent, f"{best}, the selector included" if key == "prompt" else best])
    return rows


def speed_rows(figures: Figures) -> list[list[str]]:
    passes, memory = (figures["track"][key] for key in ("forwards_per_frame", "peak_mib"))
    few, many = times(figures["track"]["times_as_fast"]), times(figures["objects"]["times_as_fast"])
    rows = [
        ["forwards per frame of answer", f"{passes['reference']:.1f}", f"{passes['fast']:.2f}", TARGET["forwards"]],
        ["one object, end to end", "1", few, TARGET["one"]],
        ["16 objects by words, end to end, per object", "1", many, TARGET["many"]],
    ]
    if "large" in figures:
        large = figures["large"]
        whole, rest = large["times_as_fast_as_the_reference"], large["the_same_without_the_prompt"]
        ceiling = f"{large['ceiling']['median']:.2f} at most"
        rows += [
            ["460M parameters: decoding alone", "1", times(rest["drafted"]), TARGET["large"]],
            ["the same without drafts", "1", times(rest["joined"]), ""],
            ["460M parameters: prompt and decoding", "1", times(whole["drafted"]), ceiling],
        ]
    if "long" in figures:
        long = figures["long"]
        grown = f"{long['mib_of_thousands'][-1] - long['mib_of_thousands'][0]:+.0f} MiB"
        rows += [
            ["10,000 frames: time of the second half", "first: 1", f"{long['second_half']:.3f}", "1.05"],
            ["10,000 frames: memory after all of them", "after 1,000", grown, "the same"],
        ]
    shown = f"{memory['reference']:,.0f}", f"{memory['fast']:,.0f}"
    return [*rows, ["peak memory of a process, MiB", *shown, TARGET["memory"]]]


def times(ratio: Figures) -> str:
    return f"**{ratio['median']:.2f}** times as fast ({ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f})"
