"""How the app says things: progress, results and facts as small pieces of HTML. Everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from elysium.app.clips import Clip
from elysium.app.jobs import Progress
from elysium.app.work import Outcome
from elysium.tracks import Track


def progress_html(progress: Progress) -> str:
    """A bar and a line: who waits, what is done, how fast."""
    if progress.waiting:
        ahead = "1 job is" if progress.waiting == 1 else f"{progress.waiting} jobs are"
        return _status(f"Waiting for the model: {ahead} before yours.", None)
    if not progress.done:
        return _status(f"{(progress.stage or 'starting').capitalize()} …", None)
    if progress.total is None:
        text = f"{progress.stage.capitalize()}: {progress.done} frames"
    else:
        text = f"{progress.stage.capitalize()}: {progress.done} of {progress.total} frames"
    if progress.fps:
        text += f" · {progress.fps:.1f} frames/s"
    return _status(text, progress.done / progress.total if progress.total else None)


def _status(text: str, share: float | None) -> str:
    """``share`` is 0..1, None where nobody knows."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="progress"></progress>'
    return f'<div class="status" role="status">{bar}<p>{escape(text)}</p></div>'


def note_html(text: str, kind: str = "plain") -> str:
    """One sentence; ``kind`` is plain, good or bad."""
    return f'<div class="status {kind}" role="status"><p>{escape(text)}</p></div>'


def outcome_html(outcome: Outcome) -> str:
    """What was found, a line an object, and what should be known about it."""
    result = outcome.result
    speed = result.num_frames / max(outcome.seconds, 1e-9)
    head = f"{result.num_frames} frames in {outcome.seconds:.1f} s ({speed:.1f} frames/s)"
    if outcome.stopped:
        head = f"Stopped. What was done by then is kept: {head}"
    lines = "".join(f"<li>{escape(_counts(track))}</li>" for track in result.tracks)
    notes = [note for track in result.tracks for note in (f"{track.label}: {text}" for text in track.notes)]
    return (
        f'<div class="status good" role="status"><p><strong>{escape(head)}</strong></p><ul>{lines}</ul></div>'
        + warnings_html([*result.warnings, *notes])
    )


def warnings_html(sentences: Sequence[str]) -> str:
    """A list of warnings, nothing for none."""
    if not sentences:
        return ""
    lines = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<ul class="notes">{lines}</ul>'


def object_name(track: Track) -> str:
    """What the page calls an object: its number, and its words if it has some.

    >>> from elysium.tracks import TrackRecorder
    >>> object_name(TrackRecorder(2, "the dog").finish())
    '2 · the dog'
    """
    return f"{track.id} · {track.expression}" if track.expression else track.label


def _counts(track: Track) -> str:
    counts = {state: int((track.states == state).sum()) for state in ("tracked", "carried", "absent")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{object_name(track)}: {told or 'nothing'}"


def clip_html(clip: Clip) -> str:
    """The facts of a clip, and warnings about it."""
    width, height = clip.resolution_wh
    length = f"{len(clip)} frames · {len(clip) / clip.fps:.1f} s" if len(clip) > 1 else "1 image"
    text = f"{clip.name} · {width} × {height} pixels · {length}"
    return facts_html(text) + warnings_html(clip.warnings)


def facts_html(text: str) -> str:
    """A line in small print."""
    return f'<div class="facts">{escape(text)}</div>'


def frame_label(clip: Clip, index: int) -> str:
    """Which frame is in view."""
    return f"Frame {index} of {len(clip)} · {clip.times_s[index]:.2f} s"
