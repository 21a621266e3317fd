"""What happens on the page when a visitor does something: from events to the `Desk`, and from its answers to updates.

Every method gives updates by the name of a component (see `page`), those that take time several times. Knows the names
of the components, not where they stand. An ElysiumError becomes a message on the page.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import gradio as gr

from elysium.app import said, timeline, view
from elysium.app.clips import Clip
from elysium.app.corrections import find, nearest_frame
from elysium.app.desk import Desk, frame_box
from elysium.app.jobs import Cancelled, Job
from elysium.app.visitors import Version, Visitor, Visitors
from elysium.app.work import Options
from elysium.errors import ElysiumError, InputError

Updates = dict[str, Any]
WINDOWS: dict[str, float | Literal["auto"] | None] = {
    "near the last box (as the model wants it)": "auto",
    "at whole frames": None,
}
LOST: dict[str, Literal["search", "report", "stop"]] = {
    "look for it again": "search",
    "call it absent from then on": "report",
    "end its track": "stop",
}


class Handlers:
    """One for a server; who is meant is in every request."""

    def __init__(self, desk: Desk, visitors: Visitors) -> None:
        self.desk, self.visitors = desk, visitors

    def visitor(self, request: gr.Request) -> Visitor:
        """Who asks. A request without a session is a visitor of its own."""
        with as_message():
            return self.visitors.get(request.session_hash or secrets.token_hex(16))

    # Step 1

    def upload(self, files: list[str] | None, request: gr.Request) -> Iterator[Updates]:
        """Files were dropped; None when they were taken away again."""
        if not files:
            return
        visitor = self.visitor(request)
        yield {"facts": said.note_html("Reading the upload …")}
        try:
            clip = self.desk.take_in(visitor, files)
        except ElysiumError as error:
            yield {"facts": said.note_html(str(error), "bad"), "upload": None}
            return
        yield {"upload": None, **self._begun(visitor, clip)}

    def sample(self, name: str, request: gr.Request) -> Iterator[Updates]:
        """A sample was picked."""
        visitor = self.visitor(request)
        yield {"facts": said.note_html("Opening the sample …")}
        try:
            clip = self.desk.take_sample(visitor, name)
        except ElysiumError as error:
            yield {"facts": said.note_html(str(error), "bad")}
            return
        yield self._begun(visitor, clip)

    def _begun(self, visitor: Visitor, clip: Clip) -> Updates:
        """The page with a new clip on it."""
        last = len(clip) - 1
        return {
            "facts": said.clip_html(clip),
            "what": gr.update(visible=True),
            "view": gr.update(value=view.shown(clip.path(0), []), visible=True),
            "frame": gr.update(value=0, maximum=max(1, last), visible=last > 0),
            "words": "",
            "answers": "",
            "status": "",
            "results": gr.update(visible=False),
            "empty": gr.update(visible=True),
        }

    # Step 2

    def scrub(self, boxes: list[list[float]], frame: int, request: gr.Request) -> Updates:
        """Another frame is to be seen; what was drawn on this one is kept."""
        visitor = self.visitor(request)
        with as_message():
            clip = self.desk.clip(visitor)
            self.desk.draw(visitor, visitor.shown, boxes)
            index = self.desk.show(visitor, frame)
        return {"view": view.shown(clip.path(index), visitor.drawn.get(index, []))}

    def describe(self, boxes: list[list[float]], request: gr.Request) -> Iterator[Updates]:
        """What is in the boxes on the frame in view?"""
        visitor = self.visitor(request)
        with as_message():
            job = self.desk.describe(visitor, visitor.shown, boxes)
            yield from self._waited(job, "answers")
            texts = job.result()
        yield {"answers": said.note_html(" · ".join(texts), "good")}

    def ask(self, question: str, request: gr.Request) -> Iterator[Updates]:
        """A question about the whole clip."""
        visitor = self.visitor(request)
        with as_message():
            job = self.desk.ask(visitor, question)
            yield from self._waited(job, "answers")
            answer, warnings = job.result()
        yield {"answers": said.note_html(answer, "good") + said.warnings_html(warnings)}

    # Step 3

    def track(
        self, boxes: list[list[float]], words: str, stride: int, window: str, lost: str, request: gr.Request
    ) -> Iterator[Updates]:
        """Track what is drawn and written."""
        visitor = self.visitor(request)

        def start() -> Job:
            self.desk.draw(visitor, visitor.shown, boxes)
            options = Options(int(stride), WINDOWS.get(window, "auto"), LOST.get(lost, "search"))
            return self.desk.track(visitor, self.desk.targets(visitor, words), options)

        yield from self._worked(start, lambda job: self._result(visitor, self.desk.keep(visitor, job)))

    def _worked(
        self, start: Callable[[], Job], finish: Callable[[Job], Updates], place: str = "status"
    ) -> Iterator[Updates]:
        """Start a job, tell its progress in ``place``, and finish with what it gives; the buttons come back in any
        case."""
        try:
            job = start()
            yield {"track": gr.update(interactive=False), "stop": gr.update(interactive=True)}
            yield from self._waited(job, place)
            updates = finish(job)
        except ElysiumError as error:
            kind = "plain" if isinstance(error, Cancelled) else "bad"
            updates = {place: said.note_html(str(error), kind)}
        except Exception:
            yield _idle() | {place: said.note_html("This failed unexpectedly. Try once more.", "bad")}
            raise
        yield _idle() | updates

    def stop(self, request: gr.Request) -> Updates:
        """Stop whatever runs."""
        if not self.desk.cancel(self.visitor(request)):
            return {"stop": gr.update(interactive=False)}
        return {"stop": gr.update(interactive=False), "status": said.note_html("Stopping after this clip …")}

    def _waited(self, job: Job, place: str) -> Iterator[Updates]:
        """Progress until the job is over."""
        for progress in job.updates():
            if not job.over:
                yield {place: said.progress_html(progress)}

    # Results

    def _result(self, visitor: Visitor, version: Version, track_id: int | None = None, frame: int = 0) -> Updates:
        """The page with a result on it; ``track_id`` and ``frame`` are what is looked at for corrections."""
        outcome = version.outcome
        choices = [(said.object_name(track), track.id) for track in outcome.result.tracks]
        track_id = track_id if track_id is not None else choices[0][1]
        some = bool(outcome.result.num_frames)
        updates: Updates = {
            "status": said.outcome_html(outcome),
            "fixing": "",
            "making": "",
            "results": gr.update(visible=True),
            "empty": gr.update(visible=False),
            "video": gr.update(value=str(outcome.files["mp4"]) if "mp4" in outcome.files else None, visible=some),
            "files": [str(path) for path in outcome.files.values()],
            "object": gr.update(choices=choices, value=track_id),
        }
        return updates | (self._looked_at(visitor, version, track_id, frame) if some else {})

    def _looked_at(self, visitor: Visitor, version: Version, track_id: int, frame: int) -> Updates:
        """A frame of the result under the loupe, with the box of one object."""
        clip, result = self.desk.clip(visitor), version.outcome.result
        index = nearest_frame(result, frame)
        track = find(result, track_id)
        row = track.row(index)
        box = None if row is None else frame_box(track.boxes_xyxy[row].tolist())
        state = "not tracked here" if row is None else f"{track.states[row]}, score {track.scores[row]:.2f}"
        by_hand = index in version.corrections.get(track_id, {})
        text = f"{said.frame_label(clip, index)} · {said.object_name(track)}: {state}{' (by hand)' if by_hand else ''}"
        if box is None:
            seen = view.shown(clip.path(index), [])
        else:
            seen = view.shown(clip.path(index), [box], [said.object_name(track)], [track_id])
        return {
            "timeline": timeline.timeline_svg(result, index),
            "place": gr.update(value=index, maximum=max(1, len(clip) - 1), visible=len(clip) > 1),
            "loupe": gr.update(value=seen, visible=True),
            "state": said.facts_html(text),
        }

    def open_frame(self, track_id: int, event: gr.SelectData, request: gr.Request) -> Updates:
        """A place of the timeline was clicked."""
        return self.look(track_id, int(event.index), request)

    def look(self, track_id: int, frame: int, request: gr.Request) -> Updates:
        """Another object or frame is to be looked at."""
        visitor = self.visitor(request)
        with as_message():
            return self._looked_at(visitor, self.desk.version(visitor), _number(track_id), int(frame))

    def redraw(self, boxes: list[list[float]], track_id: int, frame: int, request: gr.Request) -> Iterator[Updates]:
        """The object is where its box has been drawn: track on from there."""
        visitor = self.visitor(request)
        with as_message():
            if not boxes:
                raise InputError("There is no box on this frame", "Draw one, or mark the object absent.")
        yield from self._correct(visitor, track_id, frame, boxes[-1])

    def absent(self, track_id: int, frame: int, request: gr.Request) -> Iterator[Updates]:
        """The object is not in this frame: look for it from the next one on."""
        yield from self._correct(self.visitor(request), track_id, frame, None)

    def absent_on(self, track_id: int, frame: int, request: gr.Request) -> Iterator[Updates]:
        """The object is in none of the frames from this one on."""
        yield from self._correct(self.visitor(request), track_id, frame, None, to_end=True)

    def _correct(
        self, visitor: Visitor, track_id: int, frame: int, box: list[float] | None, to_end: bool = False
    ) -> Iterator[Updates]:
        def finish(job: Job) -> Updates:
            asked = job.arguments
            version = self.desk.keep_correction(visitor, job)
            return self._result(visitor, version, asked["track_id"], asked["correction"].index)

        yield from self._worked(
            lambda: self.desk.correct(visitor, _number(track_id), int(frame), box, to_end), finish, "fixing"
        )

    def undo(self, track_id: int, frame: int, request: gr.Request) -> Updates:
        """Back to before the last correction."""
        visitor = self.visitor(request)
        with as_message():
            number = _number(track_id)
            return self._result(visitor, self.desk.undo(visitor), number, int(frame))

    def save(self, request: gr.Request) -> Updates:
        """The result as records with their images."""
        visitor = self.visitor(request)
        with as_message():
            path = self.desk.save_labels(visitor)
            files = [*self.desk.version(visitor).outcome.files.values(), path]
        return {"files": [str(file) for file in files]}

    def make_gif(self, request: gr.Request) -> Iterator[Updates]:
        """A GIF of the result."""
        visitor = self.visitor(request)

        def finish(job: Job) -> Updates:
            outcome = self.desk.keep_gif(visitor, job).outcome
            return {"making": "", "files": [str(path) for path in outcome.files.values()]}

        yield from self._worked(lambda: self.desk.make_gif(visitor), finish, "making")

    # Live

    def live(self, words: str, request: gr.Request) -> Iterator[Updates]:
        """Follow words in the operator's stream, and show it."""
        visitor = self.visitor(request)
        try:
            job = self.desk.live(visitor, words)
            yield {"start": gr.update(interactive=False), "end": gr.update(interactive=True)}
            for progress in job.updates():
                updates: Updates = {"live_status": said.progress_html(progress)} if not job.over else {}
                if progress.image is not None:
                    data = base64.b64encode(progress.image).decode()
                    updates["live"] = f'<img alt="Live view" src="data:image/jpeg;base64,{data}">'
                if updates:
                    yield updates
            told = said.note_html(f"The live view has ended after {job.result()} frames.")
        except ElysiumError as error:
            told = said.note_html(str(error), "plain" if isinstance(error, Cancelled) else "bad")
        yield {"live_status": told, "start": gr.update(interactive=True), "end": gr.update(interactive=False)}

    def end_live(self, request: gr.Request) -> Updates:
        self.desk.cancel(self.visitor(request))
        return {"end": gr.update(interactive=False)}

    def leave(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.visitors.leave(request.session_hash or "")
        self.visitors.leave(program_name(request))


def program_name(request: gr.Request) -> str:
    """The visitor that calls of the interface for programs are, whose videos are no business of the page's."""
    return f"program {request.session_hash or secrets.token_hex(16)}"


def _number(track_id: int | None) -> int:
    """The object that is chosen. Raises InputError if none is."""
    if track_id is None:
        raise InputError("No object is chosen", "Choose one from the list.")
    return int(track_id)


def _idle() -> Updates:
    return {"track": gr.update(interactive=True), "stop": gr.update(interactive=False)}


@contextmanager
def as_message() -> Iterator[None]:
    """Turns an ElysiumError into what Gradio shows on the page, or gives to a client."""
    try:
        yield
    except ElysiumError as error:
        raise gr.Error(str(error), title="Not done", print_exception=False) from None
