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
    from pyws.commands.usage import UsageError, with_parameters
    from pyws.settings import toml_lines

    words = json.loads(command) if command.startswith("[") else command.split()
    name, rest = cli.split(words)
    if name is None:
        raise UsageError("needs the command to show, e.g. pyws config show segments train")
    arguments = cli.parse(name, rest, with_parameters(cli.load(name), _without_need))
    hints = get_type_hints(cli.load(name), include_extras=True)
    options = [key for key in arguments if key != "common" and _POSITIONAL not in get_args(hints[key])]
    settings = {key: arguments[key] for key in options}
    common.say("\n".join(toml_lines(settings)))
    plain = {key: asdict(value) if is_dataclass(value) else value for key, value in settings.items()}  # type: ignore[arg-type]
    return json.loads(json.dumps(plain, default=lambda value: str(value) if isinstance(value, Path) else list(value)))


def _without_need(each: inspect.Parameter) -> inspect.Parameter:
    """The parameter as an option that may be left out."""
    kind = inspect.Parameter.KEYWORD_ONLY
    if each.default is not inspect.Parameter.empty:
        return each.replace(kind=kind)
    hint = each.annotation
    base, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    optional = (base | None, *marks)
    return each.replace(annotation=Annotated[optional] if marks else base | None, default=None, kind=kind)
