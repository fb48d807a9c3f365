"""Options reach what they are for, of every command, and documents say what was done."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args, get_type_hints

import pytest
from tyro.conf import Positional

from pyws import cli


def document(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_config_show_has_every_option_and_nothing_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mark = get_args(Positional[int])[1]
    hints = get_type_hints(cli.load(name), include_extras=True)
    known = [key for key in inspect.signature(cli.load(name)).parameters if mark not in get_args(hints[key])]
    assert [*document(capsys, "config", "show", name), "common"] == known
