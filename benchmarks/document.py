"""Writes the figures of benchmarks/results/*.json into the documentation, between marks; no number is typed by hand.

python benchmarks/document.py
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pages import fill, table

ROOT = Path(__file__).resolve().parent.parent
RUNS = {
    "hold": "holding the first box", "kcf": "KCF", "mil": "MIL", "csrt": "CSRT", "nanotrack": "NanoTrack v2",
    "nano": "nano, search window of 4 (its default)", "nano-full-frame": "nano, full frames",
    "nano-by-words": "nano by words (RSOT)",
}  # fmt: skip
OPE = {
    "auc": "AUC",
    "precision": "precision",
    "norm_precision": "normalised precision",
    "sr50": "SR 0.5",
    "sr75": "SR 0.75",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    texts = {
        "nano figures": summary(), "marks": marks(), "synthetic": synthetic(), "real": real(), "speed": speed(),
        "by sequence": by_sequence(), "lost": lost(), "questions": questions(), "nouns": nouns(),
        "options": options(), "small objects": small_objects(), "finetune": finetune(), "reading": reading(),
        "shards": shards(),
        "build grounders": build_grounders(), "build filters": build_filters(), "build truth": build_truth(),
        "build real": build_real(), "build speed": build_speed(),
    }  # fmt: skip
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if fill(path, texts):
            print(path)


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def prose(*sentences: str) -> str:
    """One paragraph, broken into lines."""
    return textwrap.fill(" ".join(sentences), 118, break_long_words=False, break_on_hyphens=False)


def one(value: float) -> str:
    return f"{value:.1f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %"


def summary() -> str:
    """The paragraph of the README."""
    runs, synth, asked = result("real_sequences")["runs"], result("synthetic"), result("questions")["descriptions"]
    auc = {name: one(run["mean"]["auc"]) for name, run in runs.items()}
    sot, rsot = synth["SOT"], synth["RSOT"]
    colour, noun = (share(asked[f"REG {what}"]["accuracy"]) for what in ("colour", "noun"))
    return prose(
        f"On the 21 real sequences of the evaluation set nano's SOT reaches an AUC of {auc['nano']} (holding the first",
        f"box {auc['hold']}, KCF {auc['kcf']}, CSRT {auc['csrt']}, NanoTrack v2 {auc['nanotrack']}); by words",
        f"{auc['nano-by-words']}. On held-out clips made by program: SOT {one(sot['model']['auc'])} (holding",
        f"{one(sot['hold']['auc'])}), RSOT {one(rsot['model']['auc'])}; the named object is found among three",
        f"distractors in {share(rsot['found'])}; a description has the right colour in {colour} and the right one of",
        f"{known_nouns()} nouns in {noun}.",
        f"About {result('speed')['speed']['box']['fps']:.0f} frames/s for one object on two CPU cores, bounded memory.",
        "Commands, all figures and the failures: [docs/nano.md](docs/nano.md).",
    )


def known_nouns() -> int:
    config = ROOT / "src" / "elysium" / "model" / "weights" / "nano" / "config.json"
    return len(json.loads(config.read_text(encoding="utf-8"))["tracking"]["known_nouns"])


def marks() -> str:
    """What nano was to reach, and what it reaches."""
    runs, synth, asked = result("real_sequences")["runs"], result("synthetic"), result("questions")
    right, frequent = (answered(asked["questions"], key) for key in ("accuracy", "most_frequent"))
    auc = {name: one(run["mean"]["auc"]) for name, run in runs.items()}
    rows = [
        ("real sequences, SOT AUC", "37.3; aim: CSRT's", f"{auc['nano']} (CSRT {auc['csrt']})"),
        ("synthetic, RSOT AUC", "50", one(synth["RSOT"]["model"]["auc"])),
        ("synthetic, REC accuracy", "60 %", share(synth["RSOT"]["rec_accuracy"])),
        ("synthetic, Video-REG right noun", "70 %", share(asked["descriptions"]["Video-REG noun"]["accuracy"])),
        ("questions, right; always the most frequent answer", "20 points more", f"{share(right)}; {share(frequent)}"),
    ]
    return table(("", "mark", "nano"), rows)


def answered(kinds: dict[str, dict[str, float]], key: str) -> float:
    """The share ``key`` of all questions, of whatever kind."""
    return sum(kind["number"] * kind[key] for kind in kinds.values()) / sum(kind["number"] for kind in kinds.values())


def synthetic() -> str:
    found = result("synthetic")
    rows = (("SOT", "SOT", "model"), ("holding the first box", "SOT", "hold"), ("RSOT", "RSOT", "model"))
    lines = table(
        ("", *OPE.values()),
        ([name, *(one(found[task][whose][key]) for key in OPE)] for name, task, whose in rows),
    )
    told = prose(
        f"{found['SOT']['objects']} objects (SOT), {found['RSOT']['clips']} clips with one named object among three",
        "distractors (RSOT). Found by words (more than half of the frames with IoU > 0.5):",
        f"{share(found['RSOT']['found'])}. REC on the first frame (IoU > 0.5): {share(found['RSOT']['rec_accuracy'])}.",
    )
    return f"{lines}\n\n{told}"


def real() -> str:
    runs = result("real_sequences")["runs"]
    rows = (
        [name, *(one(runs[key]["mean"][score]) for score in OPE), one(runs[key]["got10k"]["ao"])]
        for key, name in RUNS.items()
    )
    return table(("", *OPE.values(), "AO (GOT-10k)"), rows)


def by_sequence() -> str:
    runs, shown = result("real_sequences")["runs"], ("hold", "kcf", "csrt", "nano", "nano-full-frame", "nano-by-words")
    names = sorted(runs["nano"]["auc_by_sequence"])
    lines = table(
        ("sequence", "hold", "KCF", "CSRT", "SOT, window", "SOT, full", "RSOT"),
        ([name, *(one(runs[key]["auc_by_sequence"][name]) for key in shown)] for name in names),
    )
    auroc = [share(runs[key]["score_auroc"]) for key in ("nano", "nano-by-words")]
    told = prose(
        f"How well the scores of its boxes tell right ones (IoU > 0.5) from wrong ones: AUROC {auroc[0]} by box,",
        f"{auroc[1]} by words.",
    )
    return f"{lines}\n\n{told}"


def speed() -> str:
    found = result("speed")
    by, memory, start = found["speed"], found["memory"], found["start_up"]
    return prose(
        f"Speed and memory with the defaults, {found['threads']} threads of this machine: {by['box']['fps']} frames/s",
        f"by box, {by['words']['fps']} by words; peak memory {memory['200']['peak_mib']:.0f} MiB for 200 frames and",
        f"{memory['2000']['peak_mib']:.0f} MiB for 2,000 (ratio {found['memory_ratio']}); `import elysium`",
        f"{start['import_s']} s, `elysium --help` {start['help_s']} s.",
    )


def lost() -> str:
    head = ("set, asked by, `--lost-policy`", "absence recalled", "false boxes per absent frame", "found when present",
            "found again", "frames until then (median)")  # fmt: skip
    rows = []
    for name, run in result("lost").items():
        if isinstance(run, dict) and "recall" in run:
            median = run["median_refind_frames"]
            rows.append((name, share(run["recall"]), f"{run['false_boxes_per_absent_frame']:.2f}",
                         share(run["found_when_present"]), f"{run['refound']} of {run['returns']}",
                         "–" if median is None or median != median else f"{median:g}"))  # fmt: skip
    return table(head, rows)


def questions() -> str:
    found = result("questions")

    def rows(part: str) -> Iterable[Iterable[object]]:
        for name, kind in found[part].items():
            yield name, kind["number"], share(kind["accuracy"]), share(kind["most_frequent"])

    asked = table(("about", "questions", "right", "always giving the most frequent answer"), rows("questions"))
    told = table(("", "things", "right", "always giving the most frequent one"), rows("descriptions"))
    return f"{asked}\n\nDescriptions of a thing by its true box, whether they have its noun and its colour:\n\n{told}"


def nouns() -> str:
    found = result("nouns")
    whole, near = found["whole"], found["window"]
    return prose(
        f"What can be had from this tower at all ({found['held']} held-out things, {found['nouns']} nouns; probes",
        f"trained on {found['train']}): a linear reading of its frozen features names {share(whole['linear'])} of the",
        f"things right in whole pictures and {share(near['linear'])} in windows such as nano looks at when it",
        f"describes; a small network {share(whole['hidden'])} and {share(near['hidden'])}",
        "(`python benchmarks/nouns.py`).",
    )


def build_grounders() -> str:
    found = result("grounders")
    fits, runs = found["fits"], found["runs"]
    names = {"made": "made clips", "real": "real sequences"}

    def rows() -> Iterable[Iterable[object]]:
        for name, run in runs.items():
            clips, whose, score = name.split(", ")
            counts = (f"{run[key]} ({run[right]})" for key, right in
                      (("answered", "right"), ("confirmed", "confirmed_right")))  # fmt: skip
            yield names[clips], whose, score, run["asked"], *counts

    told = prose(
        "Who should be the default without the network was measured (`python benchmarks/grounders.py`): nano",
        "against FastestDet, a small detector of the 80 COCO classes. The made clips are of the generator's held-out",
        "split. `answered`: the stage takes a start from it; `confirmed`: it is found in the middle and last frame as",
        "well; in brackets how many of these starts are right (IoU > 0.5).",
    )
    lines = table(("", "grounder", "`min_score`", "phrases", "answered (right)", "confirmed (right)"), rows())
    after = prose(
        "nano's own scores are products of probabilities of tokens, at most",
        f"{fits['grounding']['quartiles'][-1]:.2f} on made clips, so a threshold of 0.6 would let nothing pass. By",
        "default they are `calibrated`: turned into how likely a box is right, by a logistic regression on",
        f"{fits['grounding']['boxes']} boxes of other made clips ({share(fits['grounding']['right'])} of them right),",
        f"and on {fits['following']['boxes']} boxes for following ({share(fits['following']['right'])}). On real",
        "frames they promise more than they hold: nano learned from made clips. Build data sets of real videos with",
        "Grounding DINO; nano is there so that everything runs without it.",
    )
    return f"{told}\n\n{lines}\n\n{after}"


def build_filters() -> str:
    counts = result("filters")["counts"]
    shown = ("drift", "overlap", "confidence", "too-small", "length")
    rows = (
        [f"{name}, {kind}", one["trajectories"], *(one.get(rule, 0) for rule in shown), one.get("dropped", 0)]
        for name, kinds in counts.items()
        for kind, one in kinds.items()
        if one
    )
    lines = table(("trajectories of", "number", *(f"`{rule}`" for rule in shown), "dropped"), rows)
    told = prose(
        "How often rules fire on clips of 64 frames of the real sequences, followed from the true box",
        "(`python benchmarks/filters.py`; good: a mean IoU of 0.5 or more in the last eight frames, lost: below 0.3;",
        "the true boxes stand for a grounder in `overlap`). `drift` fires on true boxes where these jump.",
    )
    return f"{told}\n\n{lines}"


def reading() -> str:
    found = result("data")
    one_by_one, five = found["loader"]["questions_1"], found["loader"]["questions_5"]
    file, load = found["file"], found["load_average"]
    busy = f"Two cores, beside other work (a load of {load}), which makes all times longer." if load > 1.5 else ""
    return prose(
        f"Samples of eight frames per second of one core: {one_by_one['samples_per_s']['ours']}, which is",
        f"{one_by_one['ratio']} of a plain Pillow loop over the same files; with five questions about the same frames",
        f"{five['samples_per_s']['ours']}, {five['ratio']} of it. A file of {file['records']:,} records",
        f"({file['gigabytes']} GB): the index is made once in {file['index']['open_s']:.0f} s (peak memory",
        f"{file['index']['peak_mib']:.0f} MiB); then it is opened in {file['open']['open_s']} s, and the first record",
        f"is read after {file['open']['first_record_s']} s ({file['open']['peak_mib']:.0f} MiB); the first training",
        f"sample after {file['samples']['first_sample_s']} s ({file['samples']['peak_mib']:.0f} MiB, of which",
        f"{file['samples']['imports_mib']:.0f} are imports; PyTorch is not among them). `python benchmarks/data.py`.",
        busy,
    ).strip()


def shards() -> str:
    found = result("data")["shards"]
    speed, size = found["samples_per_s"], found["megabytes"]
    return prose(
        f"Samples of eight frames per second of one core, of {found['clips']} clips of {found['frames_a_clip']} frames",
        f"that the memory of the machine holds: {speed['index']} from images in a folder, {speed['webdataset']} from",
        f"tar, {speed['parquet']} from Parquet shards (a stream reads all frames of a clip, an index those that are",
        f"drawn). The shards have {size['webdataset']} and {size['parquet']} MB, the images of their clips",
        f"{size['index']}.",
        "`python benchmarks/data.py`.",
    )


def options() -> str:
    """The options that change answers, and how nano follows with each."""
    found, whole = result("options"), "default"
    names = {
        "default": ("the defaults", "–"),
        "fine": ("`--fine`", "boxes are means over the numbers near those written"),
        "bfloat16": ("`--dtype bfloat16`", "all is rounded to 8 bits of mantissa"),
        "8bit": ("`--dtype 8bit`", "weights of the language model's layers are rounded to 8 bits"),
        "torch-int8": ("(none: PyTorch's dynamic int8)", "the same layers' weights and inputs are rounded to 8 bits"),
    }  # fmt: skip
    rows = []
    for case, run in sorted(found["cases"].items(), key=lambda item: item[0] != whole):
        kept = case.removeprefix("tokens-")
        told = names.get(case, (f"`--tokens-per-frame {kept}`", "the selector keeps another number of tokens"))
        rows.append((*told, run["visual_tokens"], one(run["auc"]), one(run["seconds"]),
                     *(share(run[key]) if case != whole else "–" for key in ("equal", "overlap"))))  # fmt: skip
    head = ("option", "what changes", "visual tokens of a clip", "AUC", "processor seconds", "boxes equal",
            "IoU with the default's")  # fmt: skip
    return table(head, rows)


def small_objects() -> str:
    found = result("small_objects")
    what = {
        "oracle": "rounding alone: squares of {side_px} px in frames of {size}",
        "synthetic": "nano, clips made by program", "real": "nano, real sequences",
    }  # fmt: skip
    size = "x".join(str(value) for value in found["resolution_wh"])
    rows = []
    for case, run in found["cases"].items():
        name, _, task = case.partition(", ")
        told = what[name].format(side_px=found["side_px"], size=size)
        took = "–" if name == "oracle" else f"{run['zoom']['seconds'] / run['plain']['seconds']:.1f}"
        rows.append((f"{told}, {task}", run["objects"], one(run["plain"]["auc"]), one(run["zoom"]["auc"]),
                     share(run["other_boxes"]), took))  # fmt: skip
    return table(("", "objects", "AUC", "AUC with `--zoom`", "frames with another box", "times the seconds"), rows)


def finetune() -> str:
    found = result("finetune")
    rows = (
        [f"{task}, {when}", *(one(found[when][task][key]) for key in ("auc", "sr50", "sr75", "precision"))]
        for task in ("SOT", "RSOT") for when in ("before", "after")
    )  # fmt: skip
    lines = table(("held-out clips", "AUC", "SR 0.5", "SR 0.75", "precision"), rows)
    return f"{lines}\n\nTraining took {found['train_s']} s on two cores, with other work beside it."


def build_truth() -> str:
    found = result("building_truth")
    rules = found["defaults"]["rules"]

    def row(name: str, scored: dict[str, Any]) -> tuple[object, ...]:
        low, high = scored["interval"]
        between = f"{share(scored['precision'])} ({100 * low:.0f} to {100 * high:.0f} %)" if scored["kept"] else "–"
        return name, scored["kept"], scored["right"], between, share(scored["recall"])

    rows = [row(name, scored) for name, scored in rules.items()]
    rows.append(row("all rules, no witnesses asked for", found["without witnesses"]["rules"]["all rules"]))
    lost = ", ".join(f"{count} {reason}" for reason, count in found["defaults"]["lost"].items())
    told = prose(
        f"{found['videos']} clips of {found['frames']} frames made by program, with captions that name",
        f"{found['things']} things in plain words; {plugins(found)}.",
        "Right: a mean IoU of 0.5 or more with what the phrase names. Precision: of what was kept, with Wilson's",
        f"interval for 95 %; recall: of all things named. Lost: {lost}.",
    )
    return f"{told}\n\n{table(('', 'kept', 'right', 'precision', 'recall'), rows)}\n\n`{command(found)}`"


def plugins(found: dict[str, Any]) -> str:
    return ", ".join(f"{stage}: {name}" for stage, name in found["plugins"].items())


def command(found: dict[str, Any]) -> str:
    return str(found["command"])


def build_real() -> str:
    found = result("building_real")
    levels = ((name, level["count"], told_losses(level)) for name, level in found["funnel"].items())
    kept = "; ".join(f"{id}: {words}" for id, words in found["kept"]) or "nothing"
    told = prose(
        "The ten clips of `../shared/data/videos` with captions of our own (`benchmarks/building_captions.jsonl`);",
        f"{plugins(found)}. Kept: {kept}.", told_check(found["checked"]),
    )
    return f"{told}\n\n{table(('', 'count', 'lost'), levels)}\n\n`{command(found)}`"


def told_check(checked: dict[str, str] | None) -> str:
    if checked is None:
        return ""
    return (
        f"Looked at, all of them (`benchmarks/building_check.csv`): of what was kept, right {checked['precision']}; of "
        f"what was dropped, right {checked['missed']}."
    )


def told_losses(level: dict[str, Any]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in level.get("lost", {}).items())


def build_speed() -> str:
    found, peaks = result("building_speed"), result("building_memory")
    stages = (
        (stage, f"{found['cpu_s'].get(stage, sum(found['cpu_s'].values())):.3f}", f"{number:,}")
        for stage, number in found["videos_per_core_hour"].items()
    )
    runs = (
        (name, run["stages_cpu_s_per_video"], run["steady_s_per_video"], run["clock_s"], run["driver_cpu_s"])
        for name, run in found["runs"].items()
    )
    memory = (
        (name, *(f"{run[role]:.0f}" if role in run else "–" for role in ("driver", "worker")))
        for name, run in peaks.items() if isinstance(run, dict) and "driver" in run
    )  # fmt: skip
    many, few = ([peaks[f"{count} clips, {workers} workers"]["cpu_s"] for workers in (0, 1)] for count in (1000, 100))
    own = [(more - less) / 900 for more, less in zip(many, few, strict=True)]
    whole = sum(found["cpu_s"].values())
    overhead = prose(
        "What Ray costs: with plug-ins that cost next to nothing, a video of 12 tiny frames takes",
        f"{1000 * own[0]:.0f} ms of the processor in the plain loop and {1000 * own[1]:.0f} ms on Ray with one worker,",
        "all of Ray's processes counted (the difference between 1,000 and 100 clips, without starting and",
        "stopping Ray, which takes seconds).",
        f"Of a video above, {whole:.1f} s, the difference is {share((own[1] - own[0]) / whole)}.",
    )
    told = prose(
        f"{found['videos']} clips of {found['frames']} frames of {found['size_px']} pixels with {found['phrases']:.1f}",
        f"phrases each, of which {found['boxes']:.1f} were followed. Two cores that others worked on, too (a",
        f"load of {found['load_average']}): what counts are seconds of the processor; those on the clock say little.",
    )
    heads = (
        ("stage", "processor, s a video", "videos per core-hour"),
        ("", "processor of the stages, s a video", "clock, s a video, from the first to the last", "clock in all, s",
         "processor of the process that shares out, s"),
        ("", "peak memory of the process that shares out, MiB", "of the largest that builds, MiB"),
    )  # fmt: skip
    tables = [table(head, rows) for head, rows in zip(heads, (stages, runs, memory), strict=True)]
    return "\n\n".join([told, *tables[:2], overhead, tables[2], f"`{command(found)}`, `{command(peaks)}`"])


if __name__ == "__main__":
    main()
