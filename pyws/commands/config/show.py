"""pyws config show: the settings that a command would run with."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions

_POSITIONAL = get_args(Positional[str])[1]


def show(
    command: Positional[str],
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Print the settings of a command as TOML, which --config reads.

    Parameters
    ----------
    command
        the command and its options, as they would follow pyws; nothing is run

    Examples
    --------
    pyws config show segments train --set epochs=20
    """
    from pyws import cli
    from pyws.settings import toml_lines
    from pyws.usage import UsageError

    words = json.loads(command) if command.startswith("[") else command.split()
    name, rest = cli.split(words)
    if name is None:
        raise UsageError("needs the command to show, e.g. pyws config show segments train")
    arguments = cli.parse(name, rest, _without_needs(cli.load(name)))
    hints = get_type_hints(cli.load(name), include_extras=True)
    options = [key for key in arguments if key != "common" and _POSITIONAL not in get_args(hints[key])]
    settings = {key: arguments[key] for key in options}
    common.say("\n".join(toml_lines(settings)))
    plain = {key: asdict(value) if is_dataclass(value) else value for key, value in settings.items()}  # type: ignore[arg-type]
    return json.loads(json.dumps(plain, default=lambda value: str(value) if isinstance(value, Path) else list(value)))


def _without_needs(command: Any) -> Any:
    """The command as a function that needs none of its arguments."""

    def stand_in(**named: Any) -> None:
        raise AssertionError("never called")

    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for key, each in inspect.signature(command).parameters.items():
        if each.default is inspect.Parameter.empty:
            base, *marks = get_args(hints[key]) if get_origin(hints[key]) is Annotated else (hints[key],)
            optional = (base | None, *marks)
            hints[key] = Annotated[optional]
            each = each.replace(default=None)
        parameters.append(each.replace(annotation=hints[key], kind=inspect.Parameter.KEYWORD_ONLY))
    stand_in.__annotations__ = hints
    stand_in.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return stand_in
