"""Command blocks of Markdown pages, and what each page says about running them.

Above every fenced `sh` or `console` block stands a comment: `<!-- run: NAME -->` names the test that runs it,
`<!-- not run: REASON -->` says why none does. A block with neither is a mistake that a test finds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMMENT = re.compile(r"<!-- (run|not run): (.+?) -->")
_FENCE = re.compile(r"^(`{3,})(\w*)\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of commands."""

    page: str
    line: int
    """Of the opening fence, from 1."""
    commands: str
    run_by: str = ""
    not_run: str = ""


def command_blocks(page: Path) -> Iterator[Block]:
    """The page's `sh` and `console` blocks, in order; of the latter only what stands behind `$ `."""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = next(index for index in range(at + 1, len(lines)) if lines[index].strip() == fence[1])
        if fence[2] in ("sh", "console"):
            yield _block(page, at, lines[at + 1 : end], fence[2], lines[at - 1] if at else "")
        at = end + 1


def _block(page: Path, at: int, body: list[str], language: str, above: str) -> Block:
    commands = body if language == "sh" else [line[2:] for line in body if line.startswith("$ ")]
    told = _COMMENT.search(above)
    run_by, not_run = (told[2], "") if told and told[1] == "run" else ("", told[2] if told else "")
    return Block(page.name, at + 1, "\n".join(commands), run_by, not_run)
