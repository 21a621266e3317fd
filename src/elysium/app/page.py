"""The page: where everything stands, and which event calls which handler. Knows looks, nothing behind `Handlers`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from elysium.app.api import add_api
from elysium.app.handlers import LOST, WINDOWS, Handlers
from elysium.app.timeline import JAVASCRIPT
from elysium.app.view import frame_view

CSS = Path(__file__).with_name("page.css")
MAX_BUTTONS = 6  # more samples than these are a list to choose from
_LEGEND = (
    '<div class="legend">Band: full colour tracked, pale carried over, grey absent. Line: score. '
    "Click anywhere, or reach a point with Tab and press Enter, to open that frame below.</div>"
)
_EMPTY = (
    '<div class="empty">The annotated video appears here.<br>'
    "Choose a video, say or show what to follow, press <strong>Track</strong>.</div>"
)

# With a box on it the component waits to have that moved; what is wanted there is a new one.
_READY_TO_DRAW = "() => { document.querySelector('#loupe button[title^=Create]')?.click(); }"
_TO_THE_RESULT = "() => { document.querySelector('#results')?.scrollIntoView({behavior: 'smooth', block: 'nearest'}); }"


def theme() -> gr.Theme:
    """Calm colours, and only fonts that are on the visitor's machine."""
    return gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", radius_size="sm",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )  # fmt: skip


def build(handlers: Handlers, model: str) -> gr.Blocks:
    """The page of a server; ``model`` is the name to show."""
    desk = handlers.desk
    parts: dict[str, Any] = {}
    with gr.Blocks(title="Elysium", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>Elysium</h1><p>Follow any object in a video: say what it is, or draw a box around it. "
            f"Model: {escape(model)}.</p>",
            elem_id="head",
        )
        if desk.stream is None:
            _studio(parts, list(desk.samples))
        else:
            with gr.Tab("Video"):
                _studio(parts, list(desk.samples))
            with gr.Tab("Live"):
                _live(parts, desk.limits.live_seconds)
        _connect(parts, handlers)
        add_api(handlers)
        page.unload(handlers.leave)
    return page


def _step(number: int, title: str, text: str) -> None:
    gr.HTML(f"<h2>{number} · {title}</h2><p>{text}</p>", elem_classes="step")


def _studio(parts: dict[str, Any], samples: list[str]) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=420):
            _choose(parts, samples)
            with gr.Column(visible=False) as parts["what"]:
                _what(parts)
        with gr.Column(scale=6, min_width=420):
            parts["empty"] = gr.HTML(_EMPTY)
            with gr.Column(visible=False, elem_id="results") as parts["results"]:
                _results(parts)


def _choose(parts: dict[str, Any], samples: list[str]) -> None:
    _step(1, "Choose a video", "Drop one in (or images of one size), or pick a sample.")
    parts["upload"] = gr.File(
        label="Video or images", file_count="multiple", type="filepath", height=124, elem_id="upload",
        file_types=["video", "image"],
    )  # fmt: skip
    if len(samples) > MAX_BUTTONS:
        parts["sample"] = gr.Dropdown(samples, value=None, label="Sample", elem_id="sample")
    elif samples:
        with gr.Row():
            parts["samples"] = {name: gr.Button(f"Sample: {name}", size="sm", min_width=80) for name in samples}
    parts["facts"] = gr.HTML(elem_id="facts")


def _what(parts: dict[str, Any]) -> None:
    _step(2, "Say or show what to follow", "Draw a box on the frame (several for several objects), or write words.")
    parts["view"] = frame_view("Frame: drag to draw a box", "view")
    parts["frame"] = gr.Slider(0, 1, value=0, step=1, label="Frame in view (a box counts from this frame on)",
                               elem_id="frame")  # fmt: skip
    parts["words"] = gr.Textbox(
        label="Words, one object a line (Shift+Enter)", placeholder="the person at the bottom", lines=1, max_lines=4,
        elem_id="words",
    )  # fmt: skip
    with gr.Accordion("Options", open=False):
        parts["stride"] = gr.Slider(1, 10, value=1, step=1, label="Look at every Nth frame")
        parts["window"] = gr.Dropdown(list(WINDOWS), value=next(iter(WINDOWS)), label="The model looks")
        parts["lost"] = gr.Dropdown(list(LOST), value=next(iter(LOST)), label="When an object is lost")
    _step(3, "Track", "You can stop at any time; what was found by then is kept.")
    with gr.Row():
        parts["track"] = gr.Button("Track", variant="primary", scale=3, elem_id="track")
        parts["stop"] = gr.Button("Stop", interactive=False, scale=1, elem_id="stop")
    parts["status"] = gr.HTML(elem_id="status")
    with gr.Accordion("Describe and ask", open=False):
        parts["describe"] = gr.Button("Describe what is in the box on the frame", elem_id="describe")
        with gr.Row(equal_height=True):
            parts["question"] = gr.Textbox(
                label="A question about the video", placeholder="What color is the car on the left?", scale=4,
                elem_id="question",
            )  # fmt: skip
            parts["ask"] = gr.Button("Ask", scale=1, elem_id="ask", min_width=80)
        parts["answers"] = gr.HTML(elem_id="answers", elem_classes="answer")


def _results(parts: dict[str, Any]) -> None:
    parts["video"] = gr.Video(label="Annotated video", interactive=False, elem_id="video", autoplay=True, loop=True)
    parts["timeline"] = gr.HTML(elem_id="timeline", js_on_load=JAVASCRIPT)
    gr.HTML(_LEGEND)
    parts["files"] = gr.File(label="Download", file_count="multiple", interactive=False, elem_id="files")
    with gr.Row():
        parts["gif"] = gr.Button("Make a GIF as well", size="sm", elem_id="gif")
        parts["save"] = gr.Button("Save as labelled records (ZIP)", size="sm", elem_id="save")
    parts["making"] = gr.HTML(elem_id="making")
    with gr.Accordion("Look closer and correct", open=True):
        with gr.Row():
            parts["object"] = gr.Dropdown([], label="Object", elem_id="object", scale=1)
            parts["place"] = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id="place", scale=2)
        parts["state"] = gr.HTML(elem_id="state")
        parts["loupe"] = frame_view("Drag to draw its box anew", "loupe", single=True)
        with gr.Row(elem_id="correct-buttons"):
            parts["redraw"] = gr.Button("It is in this box: track on from here", variant="primary", elem_id="redraw")
            parts["absent"] = gr.Button("It is not here: look for it later", elem_id="absent")
            parts["absent_on"] = gr.Button("It is gone from here on", elem_id="absent-on")
        parts["fixing"] = gr.HTML(elem_id="fixing")
        parts["undo"] = gr.Button("Take the last correction back", size="sm", elem_id="undo")


def _live(parts: dict[str, Any], seconds: float) -> None:
    gr.HTML(
        f"<p>The stream that this server was started with. A live view ends by itself after {seconds:.0f} s.</p>",
        elem_classes="step",
    )
    with gr.Row(equal_height=True):
        parts["live_words"] = gr.Textbox(
            label="Words, one object a line", placeholder="the person in red", scale=4, elem_id="live-words"
        )
        parts["start"] = gr.Button("Start", variant="primary", scale=1, elem_id="live-start")
        parts["end"] = gr.Button("Stop", interactive=False, scale=1, elem_id="live-stop")
    parts["live_status"] = gr.HTML(elem_id="live-status")
    parts["live"] = gr.HTML(elem_id="live", elem_classes="live")


def _connect(parts: dict[str, Any], do: Handlers) -> None:
    """Which event calls which handler, and what may change on the page then."""
    begun = ["facts", "upload", "what", "view", "frame", "words", "answers", "status", "results", "empty"]
    looked = ["timeline", "place", "loupe", "state"]
    result = ["status", "fixing", "making", "track", "stop", "results", "empty", "video", "files", "object", *looked]
    tracking = ["view", "words", "stride", "window", "lost"]
    at = ["object", "place"]
    on = _Connector(parts)
    on("upload.upload", do.upload, ["upload"], begun)
    for name, button in parts.get("samples", {}).items():
        on(button.click, _with_name(do.sample, name), [], begun)
    if "sample" in parts:
        on("sample.input", do.sample, ["sample"], begun)
    on("frame.input", do.scrub, ["view", "frame"], ["view"], trigger_mode="always_last")
    on("describe.click", do.describe, ["view"], ["answers"])
    on("ask.click", do.ask, ["question"], ["answers"])
    on("question.submit", do.ask, ["question"], ["answers"])
    on("track.click", do.track, tracking, result)
    on("words.submit", do.track, tracking, result)
    on("stop.click", do.stop, [], ["stop", "status"])
    on("timeline.select", do.open_frame, ["object"], looked)
    on("object.input", do.look, at, looked)
    on("place.input", do.look, at, looked, trigger_mode="always_last")
    on("redraw.click", do.redraw, ["loupe", *at], result)
    on("absent.click", do.absent, at, result)
    on("absent_on.click", do.absent_on, at, result)
    on("undo.click", do.undo, at, result)
    on("gif.click", do.make_gif, [], ["making", "track", "stop", "files"])
    on("save.click", do.save, [], ["files"])
    if "live" in parts:
        live = ["live", "live_status", "start", "end"]
        on("start.click", do.live, ["live_words"], live)
        on("end.click", do.end_live, [], ["end"])


class _Connector:
    """Connects events to handlers whose updates go by names."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts

    def __call__(
        self, event: str | Callable[..., Any], handler: Callable[..., Any], inputs: list[str], outputs: list[str],
        trigger_mode: str = "once",
    ) -> None:  # fmt: skip
        listen: Any = event
        if isinstance(event, str):
            name, _, kind = event.partition(".")
            listen = getattr(self.parts[name], kind)
        done = listen(
            self._by_component(handler),
            [self.parts[name] for name in inputs],
            [self.parts[name] for name in outputs],
            show_progress="hidden", api_visibility="private", trigger_mode=trigger_mode, concurrency_limit=None,
        )  # fmt: skip
        if "loupe" in outputs:
            done.then(None, None, None, js=_READY_TO_DRAW, api_visibility="private")
        if event in ("track.click", "words.submit"):
            done.then(None, None, None, js=_TO_THE_RESULT, api_visibility="private")

    def _by_component(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The same handler, its updates by component, with the signature that Gradio looks at."""
        parts = self.parts

        def once(*values: Any) -> Any:
            return {parts[name]: value for name, value in handler(*values).items()}

        def often(*values: Any) -> Any:
            for updates in handler(*values):
                yield {parts[name]: value for name, value in updates.items()}

        made = often if inspect.isgeneratorfunction(handler) else once
        made.__signature__ = inspect.signature(handler, eval_str=True)  # type: ignore[attr-defined]
        made.__annotations__ = inspect.get_annotations(getattr(handler, "__func__", handler), eval_str=True)
        return made


def _with_name(handler: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The handler of a sample, which is the same for all of them."""

    def picked(request: gr.Request) -> Any:
        yield from handler(name, request)

    return picked
