"""How much of what captions name becomes records, and where the rest is lost. Knows results; counts, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from elysium.building.results import VideoResult

FAILED = "failed"
NO_PHRASE = "no-phrase"  # of a caption: it names things, and none of them is to be looked for


@dataclass(frozen=True)
class Level:
    """One level of the funnel: ``count`` came in, ``lost`` by reason, ``added`` by splitting; the rest goes on."""

    name: str
    count: int
    lost: dict[str, int]
    added: int = 0

    @property
    def left(self) -> int:
        return self.count + self.added - sum(self.lost.values())


@dataclass
class Funnel:
    """Sums over videos.

    ``captions``: lines; ``aside``: captions that came to nothing before a frame was looked at, by reason. ``chunks``:
    things that captions name; ``phrases``: those that are looked for; ``boxes``: found in the first frame;
    ``trajectories``: followed; ``kept``: records. ``lost``: by stage and reason.
    """

    captions: int = 0
    aside: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    phrases: int = 0
    boxes: int = 0
    trajectories: int = 0
    kept: int = 0
    frames: int = 0
    lost: dict[str, Counter[str]] = field(
        default_factory=lambda: {stage: Counter() for stage in ("nouns", "open", "grounding", "following", "filters")}
    )

    def add(self, result: VideoResult) -> None:
        """One more video."""
        self.captions += 1
        if result.set_aside is not None:
            self.aside[result.set_aside.reason] += 1
        elif not result.phrases:
            self.aside[NO_PHRASE] += 1
        for loss in result.losses:
            self.lost[loss.stage][loss.dropped.reason] += 1
        self.chunks += result.phrases + sum(loss.stage == "nouns" for loss in result.losses)
        self.phrases += result.phrases
        self.boxes += result.grounded
        self.trajectories += result.followed
        self.kept += len(result.kept)
        self.frames += len(result.clip.indices) if result.clip is not None and result.kept else 0

    def add_failure(self) -> None:
        """One more video that nothing could be made of."""
        self.captions += 1
        self.aside[FAILED] += 1

    def levels(self) -> Iterator[Level]:
        """The levels from the top; what a level leaves is what the next one counts, but from captions to chunks."""
        lost = {stage: dict(sorted(counts.items())) for stage, counts in self.lost.items()}
        of_phrases = {**lost["open"], **lost["grounding"]}
        split = self.boxes + sum(of_phrases.values()) - self.phrases
        yield Level("captions", self.captions, dict(sorted(self.aside.items())))
        yield Level("chunks", self.chunks, lost["nouns"])
        yield Level("phrases", self.phrases, of_phrases, split)
        yield Level("boxes", self.boxes, lost["following"])
        yield Level("trajectories", self.trajectories, lost["filters"])
        yield Level("records", self.kept, {})

    def to_json(self) -> dict[str, Any]:
        """By the names of the levels."""
        return {
            level.name: {"count": level.count}
            | ({"split": level.added} if level.added else {})
            | ({"lost": level.lost} if level.lost else {})
            for level in self.levels()
        }
