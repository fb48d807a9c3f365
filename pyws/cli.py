"""The pyws command line: a table of commands, each a typed function of pyws/commands/.

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

COMMANDS = {
    "demo": "pyws.commands.demo:demo",
    "doctor": "pyws.commands.doctor:doctor",
    "data convert": "pyws.commands.data:convert",
    "data check": "pyws.commands.data:check",
    "data synthesize": "pyws.commands.data:synthesize",
    "data watch": "pyws.commands.data:watch",
    "data synthesize-a2d": "pyws.commands.mask_data:synthesize_a2d",
    "segments train": "pyws.commands.segments_training:train",
    "segments predict": "pyws.commands.segments_training:predict",
    "segments fuse": "pyws.commands.segments:fuse",
    "segments labels": "pyws.commands.segments:labels",
    "segments compare": "pyws.commands.segments_comparison:compare",
    "segments evaluate": "pyws.commands.segments_evaluation:evaluate",
    "segments ablate": "pyws.commands.segments_ablation:ablate",
    "masks classify": "pyws.commands.masks_classify:classify",
    "masks maps": "pyws.commands.masks_maps:maps",
    "masks attention": "pyws.commands.masks_attention:attention",
    "masks init": "pyws.commands.masks:init",
    "masks train": "pyws.commands.masks_training:train",
    "masks ablate": "pyws.commands.masks_ablate:ablate",
    "masks predict": "pyws.commands.masks_training:predict",
    "masks evaluate": "pyws.commands.masks:evaluate",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 bad data, 2 bad usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = _split(words)
    if name is None:
        print(_overview(), file=sys.stdout if not words or words[0] in ("-h", "--help") else sys.stderr)
        return 0 if not words or words[0] in ("-h", "--help") else 2
    try:
        return _run(_load(COMMANDS[name]), name, rest)
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


def _load(where: str) -> Callable[..., Any]:
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)


def _run(command: Callable[..., Any], name: str, rest: list[str]) -> int:
    import tyro

    document = tyro.cli(command, prog=f"pyws {name}", args=rest, config=(tyro.conf.FlagCreatePairsOff,))
    if "--json" in rest and int(os.environ.get("RANK", 0)) == 0:  # one document, also under torchrun
        print(json.dumps(document, indent=1, allow_nan=False))
    return 1 if document.get("ok") is False else 0


def _overview() -> str:
    lines = ["usage: pyws COMMAND ...      (pyws COMMAND --help tells its options)", ""]
    for name, where in COMMANDS.items():
        summary = (_load(where).__doc__ or "").strip().split("\n")[0]
        lines.append(f"  {name:20} {summary}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
