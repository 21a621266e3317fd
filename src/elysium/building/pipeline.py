"""From captions and videos to records: every stage for one video, and that for a list of videos.

    nouns -> open -> grounding -> following -> filters -> records

One function goes through them; a plain loop calls it, or Ray Data carries it, with some stages in processes of their
own if the settings say so (models on GPUs). Going on with a run that was stopped is ours, not Ray's: what came of each
video is a file, and videos that have one are skipped. What comes out does not depend on who did it, or in which order.

Knows the order of the stages, and what becomes of a video that one of them fails on. Does not know how any stage works.
"""

from __future__ import annotations

import pickle
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from elysium.building.captions import CaptionedVideo, find_video
from elysium.building.clips import VideoClip
from elysium.building.drift import import_filter
from elysium.building.filters import ClipFacts, judge
from elysium.building.following import follow_clip
from elysium.building.grounding import ground_clip
from elysium.building.results import ClipFrames, Loss, VideoResult
from elysium.building.settings import BuildSettings
from elysium.building.shots import prepare_clip
from elysium.building.staff import Staff, Stages
from elysium.building.stages import WHOLE, Dropped, Grounded, Phrase, Trajectory
from elysium.building.store import Failure, Store, digest_of
from elysium.cluster import Crew, carried, cluster
from elysium.errors import ElysiumError, OutputError
from elysium.processes import release_memory

LAST = "records"

Report = Callable[[int], None]


@dataclass
class Work:
    """A video on its way through the stages. Picklable, and small: no pixels.

    ``digest`` says of what it was begun: a file that changes on the way is made anew by the next run.
    """

    result: VideoResult
    video: Path
    digest: str
    clip: VideoClip | None = None
    cuts: tuple[int, ...] = ()
    phrases: list[Phrase] = field(default_factory=list)
    grounded: list[Grounded] = field(default_factory=list)
    trajectories: list[Trajectory] = field(default_factory=list)

    def open_clip(self) -> VideoClip:
        """The clip, which is there from the stage "open" on, where there is something to look for."""
        if self.clip is None:
            raise RuntimeError("the clip is opened by an earlier stage")
        return self.clip


@dataclass(frozen=True)
class Plan:
    """What every process has to know; ``run`` tells this run from others."""

    settings: BuildSettings
    staff: Staff
    videos: Path
    store: Store
    run: str = field(default_factory=lambda: secrets.token_hex(4))

    def digest(self, captioned: CaptionedVideo) -> str:
        """Says whether a result is still what would be made. Raises SourceError as `find_video`."""
        return digest_of(captioned, find_video(self.videos, captioned.video), self._about)

    @cached_property
    def _about(self) -> Any:
        """All that decides what comes out, but the line and the video; plug-ins by what they are."""
        out = {"running": True, **{stage: {"plugin", "options"} for stage in self.staff.members()}}
        settings = self.settings.model_dump(mode="json", exclude=out)  # type: ignore[arg-type]
        return [version("elysium-video"), settings, self.staff.identity]


Stage = Callable[[Work, Stages, Plan], None]


def _nouns(work: Work, stages: Stages, plan: Plan) -> None:
    """What is to be looked for: the phrases of the caption, or the expressions as they are."""
    captioned, result = work.result.captioned, work.result
    if captioned.expressions:
        work.phrases = [stages.nouns.phrase_of(text) for text in captioned.expressions]
    else:
        work.phrases, dropped = stages.nouns.phrases(captioned.caption)
        if not work.phrases and len(dropped) == 1 and dropped[0].reason in WHOLE:
            result.set_aside = dropped[0]
            return
        result.losses += [Loss("nouns", one) for one in dropped]
    result.phrases = len(work.phrases)


def _open(work: Work, stages: Stages, plan: Plan) -> None:
    """The frames, without those behind a cut if the settings say so; of a clip that is too short, nothing goes on."""
    if not work.phrases:
        return
    captioned, wanted, result = work.result.captioned, plan.settings.clip, work.result
    clip = VideoClip.open(
        work.video, start_s=captioned.start_s, end_s=captioned.end_s, fps=wanted.fps, max_frames=wanted.max_frames
    )
    prepared = prepare_clip(clip, plan.settings.filters)
    if prepared.clip is None:
        why = prepared.dropped[-1]
        result.losses += [Loss("open", Dropped(one.text, why.reason, why.detail)) for one in work.phrases]
        work.phrases, result.clip = [], ClipFrames.of(clip)
        return
    result.notes += prepared.dropped
    work.clip, work.cuts = clip.with_frames(prepared.clip.indices, prepared.clip.times_s), prepared.cuts
    result.clip = ClipFrames.of(work.clip)


def _grounding(work: Work, stages: Stages, plan: Plan) -> None:
    if work.phrases:
        work.grounded, dropped = ground_clip(
            stages.grounder, work.open_clip(), work.phrases, plan.settings.grounding
        )
        work.result.losses += [Loss("grounding", one) for one in dropped]
    work.result.grounded = len(work.grounded)


def _following(work: Work, stages: Stages, plan: Plan) -> None:
    if work.grounded:
        work.trajectories = follow_clip(stages.follower, work.open_clip(), work.grounded)
    work.result.followed = len(work.trajectories)


def _filters(work: Work, stages: Stages, plan: Plan) -> None:
    if work.trajectories:
        clip = work.open_clip()
        facts = ClipFacts(clip.times_s, clip.resolution_wh, work.cuts)
        for one in judge(work.trajectories, facts, plan.settings.filters):
            if one.dropped is None:
                work.result.kept.append(one.trajectory)
            else:
                work.result.losses.append(Loss("filters", one.dropped, one.trajectory, one.reasons))


def _records(work: Work, stages: Stages, plan: Plan) -> None:
    """The frames of what was kept; the result is saved behind all stages, with the time that they took."""
    plan.store.write_frames(work.result, work.clip)


STAGES: dict[str, Stage] = {
    "nouns": _nouns, "open": _open, "grounding": _grounding, "following": _following, "filters": _filters,
    "records": _records,
}  # fmt: skip


def build_video(captioned: CaptionedVideo, stages: Stages, plan: Plan) -> VideoResult:
    """All stages for one video: what came of it, which is written below the output, with the frames of what was kept.

    Raises:
        SourceError: the video is not there, leads out of its folder or cannot be decoded. OutputError: the output
        cannot be written. Others as plug-ins raise them.
    """
    work = begun(captioned, plan)
    go_through(work, list(STAGES), stages, plan)
    return work.result


def begun(captioned: CaptionedVideo, plan: Plan) -> Work:
    """A video before the first stage. Raises SourceError as `find_video`."""
    return Work(VideoResult(captioned), find_video(plan.videos, captioned.video), plan.digest(captioned))


def go_through(
    work: Work, names: Sequence[str], stages: Stages, plan: Plan, entered: Callable[[str], object] = lambda _: None
) -> None:
    """Some stages, in order, each told to ``entered`` before; behind the last one of all the result is saved."""
    for name in names:
        entered(name)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        STAGES[name](work, stages, plan)
        work.result.cpu_s[name] = time.process_time() - cpu_s
        work.result.wall_s[name] = time.perf_counter() - wall_s
    if work.clip is not None:
        work.clip.close()
    if names[-1] == LAST:
        plan.store.save(work.result, work.digest)


# --- A list of videos ---


@dataclass(frozen=True)
class Task:
    """A video between two processes: ``work`` is a pickled `Work`, b"" at the start; with an error it is over.

    ``fatal``: the error is not of this video alone.
    """

    captioned: CaptionedVideo
    work: bytes = b""
    error: str = ""
    fatal: bool = False


def advance(task: Task, plan: Plan, stages: Stages, names: Sequence[str]) -> Task:
    """The stages ``names`` for one video. Whatever an exception says is in the task that comes back.

    A video that ended the process `cluster.MOST_TRIES` times is not tried again. One that is done is not done again:
    when a process ends Ray gives the next one all that it had got at once.
    """
    captioned = task.captioned
    if task.error:
        return task
    mark = plan.store.mark(captioned.id, plan.run)
    if told := mark.given_up():
        mark.end()
        return Task(captioned, error=told)
    tries = mark.tries()[0] + 1
    try:
        work = pickle.loads(task.work) if task.work else begun(captioned, plan)
        if names[-1] == LAST and plan.store.digest(captioned.id) == work.digest:
            return Task(captioned)
        go_through(work, names, stages, plan, lambda name: mark.begin(tries, name))
    except OutputError as error:
        return Task(captioned, error=str(error), fatal=True)
    except ElysiumError as error:
        return Task(captioned, error=str(error))
    except Exception as error:
        return Task(captioned, error=f"{mark.tries()[1]}: {type(error).__name__}: {error}")
    finally:
        mark.end()
        release_memory()
    return Task(captioned, b"" if names[-1] == LAST else pickle.dumps(work))


def crews(plan: Plan, workers: int) -> list[Crew]:
    """Who does which stages: neighbours that have no place of their own together."""
    running = plan.settings.running
    places = {"grounding": running.grounding, "following": running.following}
    teams: list[tuple[list[str], Any]] = []
    for name in STAGES:
        place = places.get(name)
        if teams and place is None and teams[-1][1] is None:
            teams[-1][0].append(name)
        else:
            teams.append(([name], place))
    return [
        Crew(partial(_worker, plan, names), *((workers, 0.0) if place is None else (place.workers, place.num_gpus)))
        for names, place in teams
    ]


def _worker(plan: Plan, names: Sequence[str]) -> Callable[[Task], Task]:
    """Makes the plug-ins of the stages ``names``; where one cannot be made, or the package of a rule is not there, no
    video will do any better."""
    stages = Stages(plan.staff)
    try:
        if "filters" in names and plan.settings.filters.drift.enabled:
            import_filter()
        stages.make(names)
    except Exception as error:
        told = str(error) if isinstance(error, ElysiumError) else f"{type(error).__name__}: {error}"
        return lambda task: Task(task.captioned, error=told, fatal=True)
    return partial(advance, plan=plan, stages=stages, names=names)


def advanced(plan: Plan, items: Sequence[CaptionedVideo], workers: int, ray: str | None) -> Iterator[Task]:
    """Each video when it is over, in whatever order: in a plain loop without ``workers``, else by Ray, started here or
    at the address ``ray``."""
    tasks = [Task(item) for item in items]
    if not workers:
        yield from map(_worker(plan, list(STAGES)), tasks)
        return
    teams = crews(plan, workers)
    gpus = sum(crew.workers * crew.num_gpus for crew in teams)
    with cluster(sum(crew.workers for crew in teams), ray, gpus):
        yield from carried(teams, tasks)


@dataclass(frozen=True)
class Built:
    """What a run did: videos by what became of them, and the failures in the order of the captions."""

    built: int
    skipped: int
    redone: int
    failures: list[Failure]


def build(
    items: Sequence[CaptionedVideo], plan: Plan, workers: int, ray: str | None = None, report: Report | None = None
) -> Built:
    """Build all videos that are not done. The files for readers are not written here.

    Raises ElysiumError when a plug-in cannot be made or the output cannot be written; what was done until then stays.
    """
    found = _sorted_out(items, plan)
    skipped = len(items) - len(found.waiting) - len(found.failures)
    for count, task in enumerate(advanced(plan, found.waiting, workers, ray) if found.waiting else (), start=1):
        if task.fatal:
            raise ElysiumError(task.error)
        if task.error:
            found.failures[task.captioned.id] = Failure(task.captioned.id, task.captioned.video, task.error)
        if report is not None:
            report(len(items) - len(found.waiting) + count)
    failures = [found.failures[item.id] for item in items if item.id in found.failures]
    return Built(len(items) - skipped - len(failures), skipped, found.redone, failures)


@dataclass
class _Found:
    """What there is to do: ``waiting`` for it, ``redone`` of these have a result that is no longer what would be made,
    ``failures`` of those that need not be tried."""

    waiting: list[CaptionedVideo] = field(default_factory=list)
    redone: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)


def _sorted_out(items: Sequence[CaptionedVideo], plan: Plan) -> _Found:
    found = _Found()
    for item in items:
        try:
            wanted = plan.digest(item)
        except ElysiumError as error:
            found.failures[item.id] = Failure(item.id, item.video, str(error))
            continue
        there = plan.store.digest(item.id)
        if there != wanted:
            found.waiting.append(item)
            found.redone += there is not None
    return found
