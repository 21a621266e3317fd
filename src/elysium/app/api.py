"""The interface for programs: `track`, `describe`, `ask`, `ground` as named endpoints (see docs/app.md).

Each call brings its video along and is complete in itself. Knows the forms that go over the wire; the work is the
`Desk`'s, as for the page, with the same limits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from elysium.app.handlers import Handlers, as_message, program_name
from elysium.app.jobs import QueueFull
from elysium.app.visitors import Visitor
from elysium.app.work import Options, Target
from elysium.errors import InputError


def add_api(handlers: Handlers) -> None:
    """Add the four endpoints to the page that is being built; nothing of them can be seen on it."""
    api = _Api(handlers)
    with gr.Row(visible=False):
        files = gr.File(file_count="multiple", type="filepath", label="files")
        frame, stride = gr.Number(0, precision=0, label="frame"), gr.Number(1, precision=0, label="stride")
        boxes, words = gr.JSON(label="boxes"), gr.JSON(label="expressions")
        question = gr.Textbox(label="question")
        answer, made = gr.JSON(label="answer"), gr.File(file_count="multiple", label="files")
        button = gr.Button()
    for function, inputs, outputs in (
        (api.track, [files, boxes, words, frame, stride], [answer, made]),
        (api.describe, [files, boxes, frame], [answer]),
        (api.ask, [files, question], [answer]),
        (api.ground, [files, words, frame], [answer]),
    ):
        button.click(function, inputs, outputs, api_name=function.__name__, concurrency_limit=None)


class _Api:
    """The endpoints. Boxes are xyxy pixels; a bad request is answered with one sentence."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers, self.desk = handlers, handlers.desk

    @contextmanager
    def _visit(self, files: list[str] | None, request: gr.Request, keep: bool = False) -> Iterator[Visitor]:
        """Somebody with this video and nothing else, until the answer is there, or with ``keep``, until its files have
        been fetched. Errors become messages. Raises QueueFull for two calls at once of one session."""
        with as_message():
            visitors, name = self.handlers.visitors, program_name(request)
            visitor = visitors.get(name, brief=True)
            if not visitor.turn.acquire(blocking=False):
                raise QueueFull("Your call before this one is not done yet", "Wait for it, or use another client.")
            try:
                self.desk.take_in(visitor, files or [])
                yield visitor
            except BaseException:
                keep = False
                raise
            finally:
                if not keep:
                    visitors.leave(name)
                visitor.turn.release()

    def track(
        self, files: list[str], boxes: list[list[float]] | None, expressions: list[str] | None, frame: int, stride: int,
        request: gr.Request,
    ) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
        """Follow boxes and words from a frame on: the tracks as in tracks.json, and all files."""
        with self._visit(files, request, keep=True) as visitor:
            start = self.desk.show(visitor, frame or 0)
            self.desk.draw(visitor, start, _list(boxes, "boxes"))
            text = "\n".join(_words(expressions))
            targets = [Target(start, target.box, target.expression) for target in self.desk.targets(visitor, text)]
            version = self.desk.keep(visitor, self.desk.track(visitor, targets, Options(int(stride or 1))))
            return (
                json.loads(version.outcome.result.to_json()),
                [str(path) for path in version.outcome.files.values()],
            )

    def describe(self, files: list[str], boxes: list[list[float]], frame: int, request: gr.Request) -> list[str]:
        """What is in each box of a frame, in words."""
        with self._visit(files, request) as visitor:
            texts: list[str] = self.desk.describe(visitor, frame or 0, _list(boxes, "boxes")).result()
            return texts

    def ask(self, files: list[str], question: str, request: gr.Request) -> dict[str, Any]:
        """An answer about the whole video, and warnings."""
        with self._visit(files, request) as visitor:
            answer, warnings = self.desk.ask(visitor, question or "").result()
            return {"answer": answer, "warnings": warnings}

    def ground(self, files: list[str], expressions: list[str], frame: int, request: gr.Request) -> list[dict[str, Any]]:
        """Where each expression is in a frame: a box or null, and a score."""
        with self._visit(files, request) as visitor:
            words = _words(expressions)
            found, _ = self.desk.ground(visitor, frame or 0, words).result()
            return [
                {
                    "expression": text,
                    "box_xyxy": None if box is None else [round(value, 2) for value in box],
                    "score": round(score, 4),
                }
                for text, (box, score) in zip(words, found, strict=True)
            ]


def _list(value: Any, name: str) -> list[Any]:
    """A list, or nothing. Raises InputError."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{name} is no list", "Give a list, [] for none.")
    return value


def _words(value: Any) -> list[str]:
    """A list of texts, or nothing. Raises InputError."""
    texts = _list(value, "expressions")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"The expression {text!r} is no text", 'Give a list like ["the dog"].')
    return texts
