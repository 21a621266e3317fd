"""When each object was seen, and how sure the model was: a picture (SVG) whose frames can be clicked.

One row an object: a band of its states and a line of its score. A click gives the frame, by JavaScript that is part of
the page. Knows tracks and markup, no page.
"""

from __future__ import annotations

from html import escape

import numpy as np

from elysium.draw import PALETTE
from elysium.tracks import Track, TrackResult

WIDTH, LEFT, RIGHT = 620, 8, 8  # units of the picture; it is scaled to the page
ROW, BAND, SCORE = 70, 10, 30  # heights: of a row, of its band, of its line
_AXIS = 26

# What a frame of each state looks like in the band: colour ("" for the object's own), and how it is called.
STATE_STYLES = {"tracked": ("", 1.0), "carried": ("", 0.35), "absent": ("#9aa0a6", 0.35)}

# Finds the frame under the pointer and tells the page; Enter on a point does the same.
JAVASCRIPT = """
const tell = (frame) => {
  const svg = element.querySelector('svg.timeline'), video = document.querySelector('#video video');
  if (svg && video) {
    video.pause();
    const place = JSON.parse(svg.dataset.frames).indexOf(frame);
    if (place >= 0) video.currentTime = (place + 0.5) / parseFloat(svg.dataset.fps);
  }
  trigger('select', {index: frame, value: frame});
};
element.addEventListener('click', (event) => {
  const point = event.target.closest('[data-frame]');
  if (point) { tell(parseInt(point.dataset.frame)); return; }
  const svg = event.target.closest('svg');
  if (!svg) return;
  const place = svg.createSVGPoint();
  place.x = event.clientX; place.y = event.clientY;
  const x = place.matrixTransform(svg.getScreenCTM().inverse()).x;
  const frames = JSON.parse(svg.dataset.frames), lefts = JSON.parse(svg.dataset.lefts);
  let best = 0;
  for (let i = 1; i < lefts.length; i++) if (Math.abs(lefts[i] - x) < Math.abs(lefts[best] - x)) best = i;
  tell(frames[best]);
});
element.addEventListener('keydown', (event) => {
  const point = event.target.closest('[data-frame]');
  if (point && (event.key === 'Enter' || event.key === ' ')) {
    event.preventDefault(); tell(parseInt(point.dataset.frame));
  }
});
"""


def timeline_svg(result: TrackResult, shown: int | None = None) -> str:
    """The picture; empty if no frame was processed.

    Args:
        shown: the frame in view, marked with a line.
    """
    indices = result.indices
    if not len(indices):
        return ""
    x_of = _scale(indices)
    height = ROW * len(result.tracks) + _AXIS
    rows = "".join(_row(track, place * ROW, x_of) for place, track in enumerate(result.tracks))
    lefts = [round(x_of[int(index)], 1) for index in indices]
    mark = ""
    if shown is not None and shown in x_of:
        x = x_of[shown]
        mark = f'<line class="now" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - _AXIS}"/>'
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="group" '
        f'aria-label="Timeline of all objects: click a place to open its frame" '
        f'data-frames="{indices.tolist()}" data-lefts="{lefts}" data-fps="{result.output_fps:.6f}">'
        f"{rows}{mark}{_axis(result, height, x_of)}</svg>"
    )


def _scale(indices: np.ndarray) -> dict[int, float]:
    """Where each processed frame stands, from left to right."""
    room = WIDTH - LEFT - RIGHT
    steps = max(1, len(indices) - 1)
    return {int(index): LEFT + room * place / steps for place, index in enumerate(indices)}


def _row(track: Track, top: int, x_of: dict[int, float]) -> str:
    """One object: its name, its band, its score, and points where its state changes."""
    color = PALETTE.by_idx((track.id - 1) % len(PALETTE.colors)).as_hex()
    name = f"{track.id} · {track.label}" if track.expression else track.label
    text = f'<text class="name" x="{LEFT}" y="{top + 14}">{escape(name)}</text>'
    band, base = top + 20, top + 20 + BAND + SCORE
    pieces = [_piece(track, start, stop, band, color, x_of) for start, stop in _runs(track)]
    points = " ".join(
        f"{x_of[int(index)]:.1f},{base - SCORE * min(1.0, max(0.0, float(score))):.1f}"
        for index, score in zip(track.indices, np.nan_to_num(track.scores), strict=True)
    )
    line = f'<polyline class="score" points="{points}" style="stroke:{color}"/>'
    floor = f'<line class="floor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
    changes = "".join(_point(track, start, base, color, x_of) for start, _ in _runs(track))
    return text + floor + "".join(pieces) + line + changes


def _runs(track: Track) -> list[tuple[int, int]]:
    """Stretches of one state, as first and last row."""
    if not len(track):
        return []
    starts = [0, *(np.flatnonzero(track.states[1:] != track.states[:-1]) + 1).tolist()]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), len(track) - 1], strict=True))


def _piece(track: Track, start: int, stop: int, top: int, color: str, x_of: dict[int, float]) -> str:
    """A stretch of one state in the band."""
    state = str(track.states[start])
    fill, opacity = STATE_STYLES[state]
    half = _half_step(x_of)
    x1, x2 = x_of[int(track.indices[start])] - half, x_of[int(track.indices[stop])] + half
    first, last = int(track.indices[start]), int(track.indices[stop])
    return (
        f'<rect class="{state}" x="{x1:.1f}" y="{top}" width="{x2 - x1:.1f}" height="{BAND}" '
        f'fill="{fill or color}" fill-opacity="{opacity}"><title>frames {first} to {last}: {state}</title></rect>'
    )


def _half_step(x_of: dict[int, float]) -> float:
    places = list(x_of.values())
    return (places[1] - places[0]) / 2 if len(places) > 1 else WIDTH / 2 - LEFT


def _point(track: Track, row: int, base: float, color: str, x_of: dict[int, float]) -> str:
    """A point that opens the frame in which a state begins; it can be reached by keyboard."""
    index, state, score = int(track.indices[row]), str(track.states[row]), float(np.nan_to_num(track.scores[row]))
    y = base - SCORE * min(1.0, max(0.0, score))
    told = escape(f"{track.label}, frame {index}: {state}, score {score:.2f}. Open this frame", quote=True)
    return (
        f'<circle class="point" data-frame="{index}" tabindex="0" role="button" aria-label="{told}" '
        f'cx="{x_of[index]:.1f}" cy="{y:.1f}" r="6" fill="{color}"><title>{told}</title></circle>'
    )


def _axis(result: TrackResult, height: int, x_of: dict[int, float]) -> str:
    """Frame numbers and seconds below, at about six places."""
    places = list(x_of)
    chosen = places[:: max(1, len(places) // 6)]
    marks = []
    for index in chosen:
        x = x_of[index]
        anchor = "start" if x < 40 else "end" if x > WIDTH - 60 else "middle"
        told = f"{index} ({index / result.fps:.1f} s)" if result.fps else str(index)
        marks.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="{anchor}">{told}</text>')
    return "".join(marks)
