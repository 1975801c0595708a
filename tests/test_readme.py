"""Every command shown in the documentation is one that the program understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from emhance.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]

BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(emhance [^`\n]+)`")


def commands_of(text: str) -> list[str]:
    """Command lines that begin with ``emhance``, in blocks and in running text; continued lines are joined."""
    found = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ").split(" # ")[0].strip()
            if line.startswith("emhance "):
                found.append(line)
    return found + INLINE.findall(BLOCK.sub("", text))


SHOWN = [
    pytest.param(command, id=f"{page.name}: {command}") for page in PAGES for command in commands_of(page.read_text("utf-8"))
]


def parse(command: str) -> None:
    """Parse a command line with the real parser; nothing is executed."""
    arguments = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    if not arguments or arguments[0].startswith("-"):
        group.make_context("emhance", [a for a in arguments if a not in ("-h", "--help", "--version")] or ["networks"])
        return
    context = group.make_context("emhance", arguments[:1])
    subcommand = group.get_command(context, arguments[0])
    assert subcommand is not None, f"there is no command {arguments[0]}"
    rest = arguments[1:]
    if rest in (["-h"], ["--help"]) or (not rest and command == f"emhance {arguments[0]}"):
        return  # the name of a command in running text
    subcommand.make_context(arguments[0], rest, parent=context)


@pytest.mark.parametrize("command", SHOWN)
def test_every_command_shown_is_understood(command: str) -> None:
    # Places to fill in, as in FILE or <file>, and alternatives, as in a|b, are read as words.
    parse(re.sub(r"[<>\[\]]", "", command))


def test_the_reader_of_commands_finds_them() -> None:
    text = "Use `emhance info map.mrc`.\n```\n$ emhance enhance a.mrc \\\n    b.mrc -o c.mrc # comment\nls\n```\n"
    assert commands_of(text) == ["emhance enhance a.mrc      b.mrc -o c.mrc", "emhance info map.mrc"]


def test_the_parser_finds_mistakes() -> None:
    parse("emhance enhance half1.mrc half2.mrc -o enhanced.mrc --clean 0.05")
    for wrong in ("emhance enhance a.mrc --no-such-option", "emhance polish a.mrc", "emhance enhance a.mrc --threads many"):
        with pytest.raises((Exception, SystemExit)):
            parse(wrong)
