"""The interface for programs: `track`, `describe`, `ask`, `ground` as named endpoints (see docs/app.md).

Each call brings its video along and is complete in itself. Knows the forms that go over the wire; the work is the
`Desk`'s, as for the page, with the same limits.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from elysium.app.handlers import Handlers, as_message
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

    def track(
        self, files: list[str], boxes: list[list[float]] | None, expressions: list[str] | None, frame: int, stride: int,
        request: gr.Request,
    ) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
        """Follow boxes and words from a frame on: the tracks as in tracks.json, and all files."""
        with as_message():
            visitor = self.handlers.visitor(request)
            self.desk.take_in(visitor, files or [])
            start = self.desk.show(visitor, frame or 0)
            self.desk.draw(visitor, start, _list(boxes, "boxes"))
            text = "\n".join(str(words) for words in _list(expressions, "expressions"))
            targets = [Target(start, target.box, target.expression) for target in self.desk.targets(visitor, text)]
            version = self.desk.keep(visitor, self.desk.track(visitor, targets, Options(int(stride or 1))))
            return (
                json.loads(version.outcome.result.to_json()),
                [str(path) for path in version.outcome.files.values()],
            )

    def describe(
        self, files: list[str], boxes: list[list[float]], frame: int, request: gr.Request
    ) -> list[str]:
        """What is in each box of a frame, in words."""
        with as_message():
            visitor = self.handlers.visitor(request)
            self.desk.take_in(visitor, files or [])
            texts: list[str] = self.desk.describe(visitor, frame or 0, _list(boxes, "boxes")).result()
            return texts

    def ask(self, files: list[str], question: str, request: gr.Request) -> dict[str, Any]:
        """An answer about the whole video, and warnings."""
        with as_message():
            visitor = self.handlers.visitor(request)
            self.desk.take_in(visitor, files or [])
            answer, warnings = self.desk.ask(visitor, question or "").result()
            return {"answer": answer, "warnings": warnings}

    def ground(
        self, files: list[str], expressions: list[str], frame: int, request: gr.Request
    ) -> list[dict[str, Any]]:
        """Where each expression is in a frame: a box or null, and a score."""
        with as_message():
            visitor = self.handlers.visitor(request)
            self.desk.take_in(visitor, files or [])
            words = [str(text) for text in _list(expressions, "expressions")]
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
