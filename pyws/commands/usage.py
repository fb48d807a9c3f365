"""What the command line says of itself: overviews, help with the options that matter first, errors of usage."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import io
import keyword
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

COMMANDS = Path(__file__).parent
SHOWN = 12  # optional options that --help shows; --help-all shows the others
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


class UsageError(Exception):
    """Words on the command line that no command takes."""


def overview(groups: Mapping[str, Sequence[str]]) -> str:
    """Commands by group, each with the first sentence of its docstring; no command is imported.

    Examples
    --------
    >>> print(overview({"start here": ["doctor"]}))
    usage: pyws COMMAND ...      (pyws COMMAND --help tells its options)
    <BLANKLINE>
    start here
      doctor               ...
    """
    width = shutil.get_terminal_size((120, 24)).columns
    lines = ["usage: pyws COMMAND ...      (pyws COMMAND --help tells its options)"]
    for title, names in groups.items():
        lines += ["", title]
        for name in names:
            line = f"  {name:20} {_summary(name)}"
            lines.append(line if len(line) <= width else line[: max(40, width - 3)].rstrip(" ,.;:") + "...")
    return "\n".join(lines)


def module_words(name: str) -> list[str]:
    """The parts of a command's module below pyws/commands/, the last of which is its function too.

    Examples
    --------
    >>> module_words("data synthesize-a2d"), module_words("import")
    (['data', 'synthesize_a2d'], ['import_'])
    """
    words = name.replace("-", "_").split()
    return [f"{word}_" if keyword.iskeyword(word) else word for word in words]


def _summary(name: str) -> str:
    """The first sentence of a command's docstring, read from its source."""
    words = module_words(name)
    path = COMMANDS.joinpath(*words)
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == words[-1]:
            first = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            return re.split(r"(?<=[.])\s", first)[0]
    raise LookupError(f"{source}: has no function {words[-1]}")


def unknown_command(words: Sequence[str], commands: Sequence[str]) -> str:
    """Two lines about words that name no command.

    Examples
    --------
    >>> print(unknown_command(["mask", "init"], ["masks init", "masks train"]))
    pyws: unknown command 'mask init'; did you mean 'masks init'?
    pyws --help lists the commands
    """
    said = [word for word in words[:2] if not word.startswith("-")] or list(words[:1])
    wanted = " ".join(said)
    near = [name for name in commands if name.split()[-1] == said[-1]]
    if len(near) != 1 and len(said) > 1:
        near = difflib.get_close_matches(wanted, commands, 1)
    near = near or difflib.get_close_matches(wanted, commands, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"pyws: unknown command {wanted!r}{hint}\npyws --help lists the commands"


def parse(command: Callable[..., Any], prog: str, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``command`` by name, as tyro reads them from ``words``.

    Raises
    ------
    UsageError : in two lines, what is wrong and what comes near
    """
    import tyro

    names = list(inspect.signature(command).parameters)

    @functools.wraps(command)
    def arguments(*positional: Any, **named: Any) -> dict[str, Any]:
        return {**dict(zip(names, positional, strict=False)), **named}

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            # Both forms of a flag are taken, whichever is so by default: a preset or a file may say the other.
            return tyro.cli(
                arguments, prog=prog, args=list(words), config=(tyro.conf.PositionalMetavarFromFieldName,),
                registry=_finite_numbers(),
            )  # fmt: skip
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(f"{_complaint(said.getvalue(), words, command)}\n{prog} --help shows the options") from None


def _finite_numbers() -> Any:
    """The rules of tyro, but for numbers, of which NaN and infinities mean nothing to any option."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    def finite(words: list[str]) -> float:
        if not math.isfinite(number := float(words[0])):
            raise ValueError("must be finite")
        return number

    @registry.primitive_rule
    def number(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
        if kind.type is not float:
            return None
        return PrimitiveConstructorSpec(
            1, "FLOAT", finite, lambda value: isinstance(value, float), lambda value: [str(value)]
        )

    return registry


def _complaint(said: str, words: Sequence[str], command: Callable[..., Any]) -> str:
    """One line out of the box that tyro draws around an error."""
    lines = [line.strip("│╭╰╮╯─ \t") for line in said.splitlines()]
    lines = [line for line in lines if line.strip("- ")]
    unknown = [word for line in lines for word in _after(lines, line, "Unrecognized options")]
    if unknown:
        known = option_names(command)
        wrong = next((word for word in unknown if word.startswith("-")), unknown[0])
        near = difflib.get_close_matches(wrong, known, 1, 0.5)
        if not wrong.startswith("-"):
            return f"{wrong} is a value of no option: one has too many, or takes none"
        return f"unknown option {wrong}" + (f"; did you mean {near[0]}?" if near else "")
    missing = [line.split("(")[0].strip() for line in lines if _OPTION.match(line) or re.match(r"-\w [A-Z]", line)]
    if any("Required" in line or "Missing" in line for line in lines) and missing:
        return f"needs {', '.join(missing)}"
    text = " ".join(lines)
    if choice := re.search(r"invalid choice '(.*?)' for argument '(.*?)'. Expected one of \((.*?)\)", text):
        wanted = ", ".join(sorted(set(re.findall(r"'(.*?)'", choice[3])) - {"None"}))
        return f"{choice[2]} must be one of {wanted}, got {choice[1]}"
    if malformed := re.search(r"Error parsing (--[\w.-]+): .*? Argument helptext: (.*)", text):
        return _misread(malformed[1], _kind_in(malformed[2]), words)
    text = " ".join(line for line in lines[1:] if "full helptext" not in line and not line.startswith("pyws "))
    return re.sub(r"\s+", " ", text) or "cannot be read"


def _misread(option: str, kind: str, words: Sequence[str]) -> str:
    """That an option's words are not of its kind, such as FLOAT; the last time that it is given counts."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = parts[len(parts) - parts[::-1].index(option) :]
    given = given[: next((i for i, word in enumerate(given) if re.fullmatch("--.*|-[a-zA-Z]", word)), len(given))]
    given = given if "[" in kind else given[: len(kind.split())]
    finite = "finite " if any(map(_is_infinite, given)) else ""
    return f"{option} must be {finite}{kind}, got {' '.join(given) or 'nothing'}"


def _is_infinite(word: str) -> bool:
    try:
        return not math.isfinite(float(word))
    except ValueError:
        return False


def _kind_in(helptext: str) -> str:
    """The kind of an option's words in its help, such as FLOAT or [INT [INT ...]].

    Examples
    --------
    >>> _kind_in("--iou {None}|FLOAT Overlap above which segments are one")
    'FLOAT'
    """
    kinds = [word for word in helptext.split() if not word.startswith("-")]
    length = next((i for i, word in enumerate(kinds) if re.search("[a-z]", word.replace("{None}|", ""))), len(kinds))
    return " ".join(kinds[:length]).replace("{None}|", "")


def _after(lines: list[str], line: str, title: str) -> list[str]:
    """The words that a line titled ``title`` names, on itself or, each on a line, below it."""
    if not line.startswith(title):
        return []
    if listed := line.partition(":")[2].replace(",", " ").split():
        return listed
    below = lines[lines.index(line) + 1 :]
    return [word for word in below[: next((i for i, w in enumerate(below) if " " in w), len(below))] if word]


def option_names(command: Callable[..., Any]) -> list[str]:
    """Every long option of a command, in alphabetical order."""
    heads = re.findall(r"^  (-.*?)(?:  |$)", _tyro_help(command, "pyws"), flags=re.M)
    return sorted({name for head in heads for name in _OPTION.findall(head)})


def command_help(command: Callable[..., Any], name: str, everything: bool = False) -> str:
    """The help of a command: needed options and the first dozen of the others, or all; then its examples."""
    signature = inspect.signature(command)
    optional = [
        key for key, each in signature.parameters.items()
        if key != "common" and each.default is not inspect.Parameter.empty
    ]  # fmt: skip
    hidden = [] if everything else optional[SHOWN:]
    text = _tyro_help(_without(command, hidden), f"pyws {name}").rstrip()
    text = text.replace("show this help message and exit", "show this help; --help-all shows every option")
    if hidden:
        text += f"\n\n{len(hidden)} more options: pyws {name} --help-all"
    if examples := examples_of(command):
        text += "\n\nexamples:\n" + textwrap.indent("\n".join(examples), "  ")
    return text


def completion(commands: Sequence[str], load: Callable[[str], Callable[..., Any]]) -> str:
    """A bash script, which zsh reads too, that completes commands and their options, and files elsewhere."""
    cases = "\n".join(f'    "{name}"*) options="{" ".join(option_names(load(name)))}" ;;' for name in commands)
    firsts = " ".join(dict.fromkeys(name.split()[0] for name in commands))
    groups = {name.split()[0] for name in commands if " " in name}
    seconds = "\n".join(
        f'    {group}) words="{" ".join(name.split()[1] for name in commands if name.startswith(group + " "))}" ;;'
        for group in sorted(groups)
    )
    return f"""[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_pyws() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words="" options=""
  case "${{COMP_WORDS[*]:1}}" in
{cases}
  esac
  if [ "$COMP_CWORD" = 1 ]; then
    words="{firsts}"
  elif [ "$COMP_CWORD" = 2 ]; then
    case "${{COMP_WORDS[1]}}" in
{seconds}
    esac
  fi
  case "$current" in -*) words="$options" ;; esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _pyws pyws"""


def examples_of(command: Callable[..., Any]) -> list[str]:
    """The lines of the Examples section of a command's docstring."""
    section = re.search(r"^Examples\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", inspect.getdoc(command) or "", re.M | re.S)
    return section[1].strip().splitlines() if section else []


def _without(command: Callable[..., Any], hidden: Sequence[str]) -> Callable[..., Any]:
    """The command as tyro sees it, less some of its options and the Examples of its docstring."""
    import tyro

    def without(each: inspect.Parameter) -> inspect.Parameter:
        hint: Any = each.annotation
        return each.replace(annotation=Annotated[hint, tyro.conf.Suppress]) if each.name in hidden else each

    found = with_parameters(command, without)
    found.__doc__ = re.sub(r"^\s*Examples\n\s*-+\n.*\Z", "", inspect.getdoc(command) or "", flags=re.M | re.S)
    return found


def with_parameters(
    command: Callable[..., Any], change: Callable[[inspect.Parameter], inspect.Parameter]
) -> Callable[..., Any]:
    """A function that is never called, whose parameters are those of ``command`` after ``change``, for tyro to read."""

    def stand_in(*positional: Any, **named: Any) -> None:
        raise AssertionError("never called")

    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    parameters = [change(each.replace(annotation=hints[key])) for key, each in signature.parameters.items()]
    stand_in.__name__ = stand_in.__qualname__ = command.__name__
    stand_in.__annotations__ = {**hints, **{each.name: each.annotation for each in parameters}}
    stand_in.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return stand_in


def _tyro_help(command: Callable[..., Any], prog: str) -> str:
    import tyro

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        config = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)
        tyro.cli(command, prog=prog, args=["--help"], config=config)
    text = said.getvalue().replace("{None}|", "")
    text = re.sub(r"\s*\(default: (None)?\)", "", text)  # an option that is left out has none
    return re.sub(r" +$", "", text, flags=re.M)
