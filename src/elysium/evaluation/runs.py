"""The folder of a run, opened again: what was evaluated, what came out, how it is scored.

Knows the files of a run and how its figures are made anew. Knows nothing about models or pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elysium.data.convert.sequences import label_files, sequence_folders
from elysium.data.records import Problem
from elysium.errors import InputError, SourceError
from elysium.evaluation.figures import Figures, Judge, compute_figures
from elysium.evaluation.items import DEFAULT_TEXT_KEY, Item, check_task, read_items
from elysium.evaluation.journal import Journal, read_lines
from elysium.evaluation.judge import Endpoint, Verdict, judge_one
from elysium.evaluation.results import FAILURES, RUN, SCORES, Result, read_results
from elysium.files import atomic_write_text

JUDGED = "judged.jsonl"


@dataclass(frozen=True)
class Scoring:
    """How results are scored; see `compute_figures`. ``published`` adds the released arithmetic."""

    convention: str | None = None
    count_first: bool = True
    published: bool = False
    java: bool = True


@dataclass(frozen=True, eq=False)
class Run:
    """A run's folder: the facts of ``run.json``, the items asked, results, failures."""

    folder: Path
    facts: Mapping[str, Any]
    items: tuple[Item, ...]
    results: tuple[Result, ...]
    failures: tuple[Mapping[str, str], ...]

    @classmethod
    def open(cls, folder: Path, annotations: Path | None = None) -> Run:
        """Read a folder that `elysium eval` wrote; ``annotations`` where the file lies elsewhere now.

        Raises:
            SourceError: no such folder or files. InputError: a folder of something else.
        """
        facts = read_facts(folder)
        source = annotations or Path(facts["annotations"])
        if annotations is None and facts.get("annotations_sha256") != sha256(source):
            raise InputError(
                f"{source} has changed since {folder} was made",
                f"Run the evaluation again, or say --annotations {source} to score by what it is now.",
            )
        items = read_items(
            source, facts["task"], text_key=facts["text_key"], limit=facts["limit"], max_frames=facts["max_frames"],
            on_problem=lenient,
        )  # fmt: skip
        return cls(folder, facts, tuple(items), tuple(read_results(folder)), tuple(read_failures(folder / FAILURES)))

    @property
    def task(self) -> str:
        """Of `items.TASKS`."""
        return str(self.facts["task"])

    @property
    def name(self) -> str:
        """What legends call it: the model, and the protocol where it is not the standard one."""
        name = Path(str(self.facts["model"]).removeprefix("nanotrack:")).name or str(self.facts["model"])
        return name if self.facts["protocol"] == "standard" else f"{name} ({self.facts['protocol']})"

    def figures(self, scoring: Scoring, judge: Judge | None = None) -> Figures:
        """The figures of the results; see `compute_figures`."""
        published = scoring.published or self.facts["protocol"] == "published"
        return compute_figures(
            self.task, self.items, self.results, convention=scoring.convention, count_first=scoring.count_first,
            published=published, java=scoring.java, judge=judge,
        )  # fmt: skip


def sha256(path: Path) -> str:
    """Of a file, read in pieces; of a folder of sequences, of the names and of what is said about them.

    Raises SourceError if it cannot be read.
    """
    digest = hashlib.sha256()
    parts = [path]
    if path.is_dir():
        folders = sequence_folders(path)
        digest.update("\n".join(folder.name for folder in folders).encode())
        parts = [part for folder in folders for part in label_files(folder)]
    try:
        for part in parts:
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    except OSError as error:
        raise SourceError(f"Cannot read {str(path)!r}: {error.strerror or error}", "Check the path.") from error
    return digest.hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """``run.json``. Raises SourceError, InputError."""
    path = folder / RUN
    if not folder.is_dir():
        raise SourceError(f"There is no folder {str(folder)!r}", "Give the --output of `elysium eval`.")
    if not path.is_file():
        raise SourceError(
            f"{str(folder)!r} is not the folder of a run: it has no {RUN}", "Give the --output of `elysium eval`."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("task", "model", "annotations", "images", "protocol") if key not in facts]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not the record of a run", "Run the evaluation again.") from error
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}", "Run the evaluation again.")
    facts["task"] = check_task(str(facts["task"]))
    return {"text_key": DEFAULT_TEXT_KEY, "limit": None, "max_frames": None, **facts}


def read_failures(path: Path) -> list[dict[str, str]]:
    """The failures that a file lists; none if it is not there."""
    if not path.is_file():
        return []
    try:
        failures = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} is not JSON lines", "Take it away: it lists failures, and no results.") from error
    return [failure for failure in failures if isinstance(failure, dict)]


@dataclass(frozen=True)
class _Judged:
    """A line of `judged.jsonl`: the verdict on one answer."""

    id: str
    said: str
    verdict: Verdict

    def to_json(self) -> str:
        return json.dumps({"id": self.id, "said": self.said, "verdict": self.verdict.to_json()})

    @classmethod
    def from_value(cls, value: Any) -> _Judged:
        try:
            return cls(str(value["id"]), str(value["said"]), Verdict(**value["verdict"]))
        except (KeyError, TypeError) as error:
            raise ValueError("is no verdict") from error


def remembering_judge(folder: Path, endpoint: Endpoint) -> Judge:
    """A judge that writes each verdict to ``judged.jsonl`` of a run at once, and asks no question twice.

    Raises InputError if the file holds verdicts on other answers.
    """
    path = folder / JUDGED
    known = {line.id: line for line in read_lines(path, _Judged)} if path.is_file() and path.stat().st_size else {}

    def judge(id: str, question: str, right: str, said: str) -> Verdict:
        if id in known:
            if known[id].said != said:
                raise InputError(f"{path} has a verdict on another answer to {id!r}", "Take the file away.")
            return known[id].verdict
        verdict = judge_one(endpoint, question, right, said)
        with Journal(path, _Judged) as journal:
            journal.write(_Judged(id, said, verdict))
        return verdict

    return judge


def write_scores(folder: Path, figures: Figures) -> Path:
    """``scores.json``."""
    return atomic_write_text(folder / SCORES, json.dumps(figures.to_json(), indent=2) + "\n")


def read_scores(folder: Path) -> dict[str, Any]:
    """``scores.json``. Raises SourceError if the run has not been scored."""
    path = folder / SCORES
    if not path.is_file():
        raise SourceError(f"{str(folder)!r} has no {SCORES}", f"Run `elysium score {folder}` first.")
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON", f"Run `elysium score {folder}` again.") from error
    if not isinstance(scores, dict):
        raise InputError(f"{path} holds no scores", f"Run `elysium score {folder}` again.")
    return scores


def per_item(scores: Mapping[str, Any], metric: str | None = None) -> tuple[str, dict[str, float]]:
    """The name of a metric and its value for each sequence or item of a `scores.json`; the task's main metric by
    default. Raises InputError for a metric that it does not have."""
    rows: dict[str, dict[str, Any]] = scores.get("sequences") or scores.get("per_item") or {}
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError("The scores are not those of `elysium score`", "Score the run again.")
    names = sorted(
        {name for row in rows.values() for name, value in row.items() if isinstance(value, int | float | None)}
    )
    if metric is None:
        metric = next((name for name in _MAIN if name in names), names[0] if names else None)
    if metric is None or metric not in names:
        listed = ", ".join(names) or "none for single items"
        raise InputError(f"There is no metric {metric!r} for each item", f"There are: {listed}.")
    nothing = float("nan")
    return metric, {id: nothing if row.get(metric) is None else float(row[metric]) for id, row in rows.items()}


_MAIN = ("auc", "iou", "right", "cider", "meteor")


def lenient(problem: Problem) -> None:
    """Lesser defects (a true box that sticks out of its frame) are borne; what makes a record unusable is not: leaving
    it out would change the benchmark. Raises InputError."""
    if problem.fatal or problem.torn:
        raise InputError(str(problem), "Mend this record or take it out.")
