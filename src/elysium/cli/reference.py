"""The reference of all commands as Markdown, from the commands themselves: ``python -m elysium.cli.reference``.

``docs/cli.md`` is its output; a test compares them. Knows how typer describes commands, and nothing of what they do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# Reference of the command line

<!-- Written by `python -m elysium.cli.reference > docs/cli.md`. Change the commands, not this file. -->

Worked examples stand in [guide.md](guide.md), file formats in [outputs.md](outputs.md). Results go to stdout, progress,
warnings and errors to stderr. `elysium --install-completion` teaches the shell to complete commands and options.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | some items failed; the others are done |
| 2 | bad input: one sentence on stderr says what and what to do, and nothing was written |
| 130 | interrupted by Ctrl-C; what was done so far is kept |
"""


def reference() -> str:
    """The whole file."""
    from elysium.cli.main import app

    commands = _commands(typer.main.get_command(app), "")
    return "\n".join([HEAD, *("\n".join(_section(command, name)) for name, command in commands)]) + "\n"


def _commands(group: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Every command by its whole name, those of a group below one another."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield above + name, command


def _section(command: Any, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=f"elysium {name}")
    yield f"## elysium {name}\n"
    yield f"```\nelysium {name} [OPTIONS] {_arguments(command.get_params(context))}".rstrip() + "\n```\n"
    yield _prose(command.help or "")
    rows = [_row(parameter) for parameter in command.get_params(context) if parameter.name != "help"]
    if rows:
        yield "| | | default |\n|---|---|---|"
        yield from rows
        yield ""


def _arguments(parameters: list[Any]) -> str:
    names = [(_name(p), p.required) for p in parameters if p.param_type_name == "argument"]
    return " ".join(name if required else f"[{name}]" for name, required in names)


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _prose(text: str) -> str:
    """The docstring; its example as a block of code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        line = " ".join(paragraph.split())
        if line.startswith("Example: "):
            line = f"```sh\n{line.removeprefix('Example: ')}\n```"
        paragraphs.append(line)
    return "\n\n".join(paragraphs) + "\n"


def _row(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    names = _name(parameter)
    if option:
        names = "/".join([" ".join(parameter.opts), *parameter.secondary_opts])
    if option and not parameter.is_flag:
        names += f" {parameter.metavar or parameter.type.name.upper()}"
    text = parameter.help or ""
    return f"| `{_cell(names)}` | {_cell(text)} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    pair = getattr(parameter, "secondary_opts", None)
    if pair and isinstance(value, bool):
        return f"`{parameter.opts[0] if value else pair[0]}`"
    return "" if value is None or isinstance(value, bool) or not parameter.show_default else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
