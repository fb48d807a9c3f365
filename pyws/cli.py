"""The pyws command line: a list of commands, each a typed function in the file of pyws/commands/ that has its name.

A command function has typed parameters (positional ones marked ``tyro.conf.Positional``), a docstring from which the
help is made, a last parameter ``common: CommonOptions = Common()``, and returns the JSON document that --json prints;
where its ``ok`` is false the exit status is 1.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pyws.errors import PywsError

COMMANDS = (
    "demo",
    "doctor",
    "data convert",
    "data check",
    "data synthesize",
    "data watch",
    "data synthesize-a2d",
    "segments train",
    "segments predict",
    "segments fuse",
    "segments labels",
    "segments compare",
    "segments evaluate",
    "segments ablate",
    "masks classify",
    "masks maps",
    "masks attention",
    "masks init",
    "masks train",
    "masks ablate",
    "masks predict",
    "masks evaluate",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 bad data, 2 bad usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _split(words)
    if name is None:
        print(_overview(), file=sys.stdout if not words or words[0] in ("-h", "--help") else sys.stderr)
        return 0 if not words or words[0] in ("-h", "--help") else 2
    try:
        return _run(_load(name), name, rest)
    except (PywsError, ValueError, TypeError, OSError) as error:
        print(f"pyws {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"pyws {name}: interrupted; what is written so far is whole, run it again to go on", file=sys.stderr)
        return 130


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """The command, one or two words, and what follows it."""
    for length in (2, 1):
        if " ".join(words[:length]) in COMMANDS:
            return " ".join(words[:length]), words[length:]
    return None, words


def _load(name: str) -> Callable[..., Any]:
    """The function of a command: "data synthesize-a2d" is synthesize_a2d of pyws/commands/data/synthesize_a2d.py."""
    path = name.replace("-", "_").split()
    return getattr(importlib.import_module(".".join(["pyws.commands", *path])), path[-1])


def _run(command: Callable[..., Any], name: str, rest: list[str]) -> int:
    import tyro

    document = tyro.cli(command, prog=f"pyws {name}", args=rest, config=(tyro.conf.FlagCreatePairsOff,))
    if "--json" in rest and int(os.environ.get("RANK", 0)) == 0:  # one document, also under torchrun
        print(json.dumps(document, indent=1, allow_nan=False))
    return 1 if document.get("ok") is False else 0


def _overview() -> str:
    lines = ["usage: pyws COMMAND ...      (pyws COMMAND --help tells its options)", ""]
    for name in COMMANDS:
        summary = (_load(name).__doc__ or "").strip().split("\n")[0]
        lines.append(f"  {name:20} {summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
