"""Puts the commands together and turns every expected failure into one sentence and an exit code.

Exit codes: 0 done, 1 some items failed, 2 bad input, 130 interrupted. Knows nothing of what commands do.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from elysium.cli import app as web_app
from elysium.cli import (
    ask,
    build,
    build_report,
    compare,
    data,
    demo,
    describe,
    eval,
    ground,
    import_checkpoint,
    info,
    models,
    new,
    plot,
    report,
    score,
    stream,
    track,
    track_many,
    train,
)
from elysium.cli.common import INTERRUPTED, error_line, warn
from elysium.errors import ElysiumError

_python_shows = warnings.showwarning

app = typer.Typer(
    name="elysium",
    help="Track, find and describe any object in a video with a multimodal language model.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # plain help, and no box drawing around errors
    pretty_exceptions_enable=False,
)
app.command("track")(track.track)
app.command("track-many")(track_many.track_many)
app.command("stream")(stream.stream)
app.command("ground")(ground.ground)
app.command("ask")(ask.ask)
app.command("describe")(describe.describe)
app.command("app")(web_app.app)
app.command("demo")(demo.demo)
app.command("eval")(eval.evaluate)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("plot")(plot.plot)
app.add_typer(data.app, name="data")
app.command("import-checkpoint")(import_checkpoint.import_checkpoint)
app.command("models")(models.models)
app.command("new")(new.new)
app.command("info")(info.info)
app.command("build")(build.build)
app.command("build-report")(build_report.build_report)
app.command("train", context_settings={"allow_interspersed_args": True})(train.train)


def _show_version(wanted: bool) -> None:
    if wanted:
        from elysium import __version__

        print(f"elysium-video {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_show_version, is_eager=True),
) -> None:
    """Track, find and describe any object in a video with a multimodal language model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: `sys.argv[1:]`) and return its exit code."""
    if arguments is None:  # as a program: who calls this as a function has warnings of their own
        warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="elysium", standalone_mode=False)
    except ElysiumError as error:
        error_line(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        error_line("interrupted")
        return INTERRUPTED
    except Exception as error:
        # Usage errors: typer brings its own copy of click's classes in some versions, so ask for the method.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        message = sentence()
        if message:  # empty after `elysium` alone, which has printed the help
            error_line(f"{message.rstrip('.')}. See `{_path(error)} --help`.")
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
    """Our own warnings as one line; those of others as Python shows them."""
    if "elysium" in filename and issubclass(category, UserWarning):
        warn(str(message))
    else:
        _python_shows(message, category, filename, *rest)


def _path(error: Exception) -> str:
    """The command that a usage error is about, for example `elysium track`."""
    return getattr(getattr(error, "ctx", None), "command_path", None) or "elysium"


if __name__ == "__main__":
    sys.exit(main())
