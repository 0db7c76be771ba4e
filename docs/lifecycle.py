"""Draws `docs/lifecycle.md` from the table in `hub/domain/lifecycle.py`: `python docs/lifecycle.py`.

A test compares the two, so the diagram cannot lie.
"""

from __future__ import annotations

from pathlib import Path

from hub.domain.lifecycle import IN_MOTION, MOVES, State

_BEGINNING = """# The life of a delivery

Drawn from the table in `hub/domain/lifecycle.py` by `python docs/lifecycle.py`. States in motion (with one due time
each): {motion}. All others are at rest.

```mermaid
stateDiagram-v2
    [*] --> planned: a decision names it
"""


def drawn() -> str:
    moves = "".join(f"    {source} --> {target}: {why}\n" for (source, target), why in MOVES.items())
    motion = ", ".join(state.value for state in State if state in IN_MOTION)
    return _BEGINNING.format(motion=motion) + moves + "```\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(drawn(), encoding="utf-8")
