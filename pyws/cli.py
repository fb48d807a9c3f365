"""The pyws command line: a list of commands, each a typed function in the file of pyws/commands/ that has its name.

A command function has typed parameters (positional ones marked ``tyro.conf.Positional``), those that matter most first,
a docstring from which the help is made, a last parameter ``common: CommonOptions = Common()``, and returns the JSON
document that --json prints; where its ``ok`` is false the exit status is 1.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyws.commands import usage
from pyws.errors import PywsError, WriteError, drop_output, printable, printing, shown, tell

if TYPE_CHECKING:
    from pyws.run_manifest import Word
    from pyws.sharding import Shard

GROUPS = {
    "start here": ("demo", "label", "features", "report", "verify", "doctor"),
    "data": ("data check", "data convert", "data synthesize", "data synthesize-a2d", "data watch"),
    "segments: when (GauFuse)": (
        "segments train", "segments predict", "segments propose", "segments fuse", "segments labels",
        "segments evaluate", "segments compare", "segments ablate",
    ),
    "masks: who, doing what (WS2)": (
        "masks init", "masks refine", "masks train", "masks predict", "masks evaluate", "masks classify", "masks maps",
        "masks attention", "masks ablate",
    ),
    "review: into other tools and back": ("export", "import"),
    "many machines": ("ray",),
    "settings": ("config show",),
}  # fmt: skip
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
USAGE_ERROR, NO_READER = 2, 141


class Stopped(KeyboardInterrupt):
    """SIGTERM, or SIGHUP as a terminal is closed: ends a command as Ctrl-C does, with an exit status of its own."""


M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # constants of glibc's malloc.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 1 bad data, 2 bad usage, 129 hung up, 130 interrupted, 141 nobody reads what is printed, 143 terminated.
    """
    if arguments is None:
        _open_closed_streams()
        _keep_freed_memory()
        _keep_numpy_to_one_thread()
        _collect_seldom()
        _load_no_compiler()
        _warn_in_words()
    words = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = split(words)
    before: dict[int, Any] = {}
    try:  # a signal may also come while handlers are set, while an error is said, or while handlers are put back
        try:
            _catch_signals(before)
            return _said(words, name, rest)
        finally:
            _restore(before)
    except KeyboardInterrupt as stop:
        _restore(before)
        number = stop.args[0] if isinstance(stop, Stopped) else signal.SIGINT
        how = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}.get(number, "interrupted")
        _end_with(f"pyws {name}: {how}; what is written so far is whole, run it again to go on")
        return 128 + number


def _said(words: list[str], name: str | None, rest: list[str]) -> int:
    """Run a command, and say in words what was wrong; the exit status."""
    try:
        done = _without_command(words) if name is None else _run(load(name), name, rest)
        if sys.stdout is not None:
            with printing():
                sys.stdout.flush()
        return done
    except BrokenPipeError:  # as `pyws ... | head -1` ends
        drop_output(sys.stdout)
        return NO_READER
    except usage.UsageError as error:
        _end_with(f"pyws {name}: {error}")
        return USAGE_ERROR
    except (PywsError, ValueError, TypeError, OSError) as error:
        _end_with(f"{f'pyws {name}' if name else 'pyws'}: {_words_of(error)}")
        return 1
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and "shared object" not in str(error):
            raise
        rule = "there is not enough memory, or a limit on it (ulimit -v) is too low"
        _end_with(f"pyws {name}: {rule}: {str(error) or type(error).__name__}")
        return 1


def _warn_in_words() -> None:
    """Have warnings of pyws say what they say, and not which line of ours says it; those of others stay as they are."""
    ours, usual = str(Path(__file__).parent), warnings.formatwarning

    def words(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category is UserWarning and filename.startswith(ours):
            return f"warning: {shown(str(message))}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = words


def _open_closed_streams() -> None:
    """Put the null device in the place of standard streams that are closed (`pyws ... 2>&-`).

    Python has None there, which nothing can be asked, and the next file that a command opens would get the number of
    the stream, and with it what libraries print.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    if not closed:
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in closed:
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def _keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed; elsewhere nothing.

    Networks free and ask for tensors of the same sizes over and over. Given back to the system in between, every page
    is cleared anew, which takes up to two fifths of the processor time of a job.
    """
    import ctypes  # keeps a file open where libffi is new, which must not get the number of a closed stream

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_ARENA_MAX, 1)  # arenas of threads would give back what they free


def _keep_numpy_to_one_thread() -> None:
    """Unless the user says otherwise: OpenBLAS's own threads, one a processor, wait actively for products of less than
    a millisecond beside those of torch, and take two thirds of the processor time of a job."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _collect_seldom() -> None:
    """Let Python's collector leave alone what libraries define: to go through it takes a third of a start, and as long
    again at the end."""
    gc.set_threshold(700, 10, 1000)
    atexit.register(gc.freeze)


class _NoCompiler(ModuleType):
    """In the place of torch._dynamo, for what optimisers ask of it: that nothing is compiled. For all else it loads the
    real one."""

    def graph_break(self, *arguments: Any, **options: Any) -> None:
        """Nothing is being compiled."""

    def disable(self, function: Any = None, *arguments: Any, **options: Any) -> Any:
        """The function itself, which nothing compiles; a decorator where there is none yet."""
        return (lambda decorated: decorated) if function is None else function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what goes through all modules asks for these
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _load_no_compiler() -> None:
    """Every optimiser of torch loads its compiler, in one to three seconds, to say that it is not to be compiled."""
    sys.modules.setdefault("torch._dynamo", _NoCompiler("torch._dynamo"))


def _words_of(error: Exception) -> str:
    """What an error says; of the system's own the file and the reason, without their number.

    Examples
    --------
    >>> _words_of(OSError(30, "Read-only file system", "out"))
    'out: Read-only file system'
    """
    if isinstance(error, PywsError) or not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f"{printable(os.fsdecode(error.filename))}: {error.strerror}"


def load(name: str) -> Callable[..., Any]:
    """The function of a command: "data synthesize-a2d" is synthesize_a2d of pyws/commands/data/synthesize_a2d.py."""
    path = usage.module_words(name)
    return getattr(importlib.import_module(".".join(["pyws.commands", *path])), path[-1])


def parse(name: str, words: Sequence[str], command: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The arguments of a command that ``words`` mean, by name; --config and --set are followed.

    Raises
    ------
    UsageError : an unknown, missing or malformed option; says which, and what comes near it
    DataError : --config names a file that cannot be read
    """
    from pyws.settings import expand, files_of, without_files

    command = load(name) if command is None else command
    if name == "config show":  # what follows are the words of another command, not its own
        return usage.parse(command, f"pyws {name}", _quoted(words))
    try:
        return usage.parse(command, f"pyws {name}", expand(list(words), command))
    except usage.UsageError as error:
        files = files_of(words)
        if files and _complaint(command, name, expand(without_files(words), command)) != str(error):
            raise usage.UsageError(f"{', '.join(map(printable, files))}: {error}") from error
        raise


def _complaint(command: Callable[..., Any], name: str, words: Sequence[str]) -> str:
    """What is wrong with the words of a command; nothing where nothing is."""
    try:
        usage.parse(command, f"pyws {name}", words)
    except usage.UsageError as error:
        return str(error)
    return ""


def split(words: list[str]) -> tuple[str | None, list[str]]:
    """The command, one or two words, and what follows it."""
    for length in (2, 1):
        if " ".join(words[:length]) in COMMANDS:
            return " ".join(words[:length]), words[length:]
    return None, words


def _without_command(words: list[str]) -> int:
    """The overview, the version, a group's commands, or what an unknown command comes near."""
    if not words or words[0] in ("-h", "--help", "--help-all"):
        _print(usage.overview(GROUPS))
        return 0
    if words[0] in ("--version", "-V"):
        from pyws import __version__

        _print(f"pyws {__version__}")
        return 0
    if words[0] == "--completion":
        _print(usage.completion(COMMANDS, load))
        return 0
    group = {title: [each for each in names if each.split()[0] == words[0]] for title, names in GROUPS.items()}
    if any(group.values()) and (len(words) == 1 or words[1].startswith("-")):
        _print(usage.overview({title: names for title, names in group.items() if names}))
        return 0
    tell(usage.unknown_command(words, COMMANDS))
    return USAGE_ERROR


def _run(command: Callable[..., Any], name: str, rest: list[str]) -> int:
    if "--help-all" in rest or "--help" in rest or "-h" in rest:
        _print(usage.command_help(command, name, everything="--help-all" in rest))
        return 0
    from pyws.run_manifest import seal, sealing, strangers
    from pyws.settings import expand
    from pyws.sharding import place_by_torchrun

    arguments, place = parse(name, rest, command), place_by_torchrun()
    results = results_of(command, arguments)
    words = [*name.split(), *expand(rest, command)] if results else []
    notes = {
        path: partial(seal, words=_repeatable(words, results, each), foreign=strangers(path))
        for each, path in results.items()
    }
    with sealing(notes):
        document = command(**arguments)
    if _speaks(place, arguments, document):
        for path, note in notes.items():
            if path.exists():
                _seal(note, path)
    if arguments["common"].json and _speaks(place, arguments, document):
        _print(json.dumps(document, indent=1, allow_nan=False))
    return 1 if document.get("ok") is False else 0


def _end_with(text: str) -> None:
    """The last words of a command, which nobody may be there to read."""
    with suppress(BrokenPipeError):
        tell(text)


def _print(text: str) -> None:
    with printing():
        print(text)


def _speaks(place: Shard, arguments: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether this process prints: of those that torchrun started the first; of shards the one that ends the work."""
    if place.whole:
        return True
    return "shard" not in document if "shard" in arguments else place.index == 1


def _seal(note: Callable[[Path], None], result: Path) -> None:
    """Note what a command that ended has written, see :mod:`pyws.run_manifest`."""
    try:
        note(result)
    except WriteError as error:
        reason = error.reason.partition(";")[0]
        rule = f"{reason}; results are whole, but pyws verify has nothing to compare them with"
        raise WriteError(error.path, rule) from error


def results_of(command: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Path]:
    """What a command writes, by parameter: ``out``, ``into``, and what is annotated as ``ALSO_WRITTEN``."""
    from pyws.commands.common import ALSO_WRITTEN
    from pyws.settings import marks_of

    names = [name for name in arguments if name in ("out", "into") or ALSO_WRITTEN in marks_of(command, name)]
    return {name: arguments[name] for name in names if arguments[name] is not None and not arguments.get("dry_run")}


def _repeatable(words: Sequence[str], results: Mapping[str, Path], which: str) -> list[Word]:
    """The words of a command less how it speaks and which shard it is; None stands for one of its results, and the name
    in a list for any other.

    Examples
    --------
    >>> _repeatable(["fox", "--tag", "run", "--out=run/", "--json", "--shard", "1/2"], {"out": Path("run")}, "out")
    ['fox', '--tag', 'run', '--out', None]
    >>> _repeatable(["data", "-o", "a.json", "--maps", "b/m"], {"out": Path("a.json"), "maps": Path("b/m")}, "maps")
    ['data', '-o', ['a.json'], '--maps', None]
    """
    stand: dict[str, Word] = {name: None if name == which else [path.name] for name, path in results.items()}
    options = {f"--{name}": name for name in results} | ({"-o": "out"} if "out" in results else {})
    found: list[Word] = []
    position = iter(words)
    for word in position:
        option, equals, _ = word.partition("=")
        if option in ("--shard", *options) and not equals:
            next(position, "")
        if option in options:
            found += [option, stand[options[option]]]
        elif option not in ("--shard", "--json", "--quiet"):
            found.append(word)
    for name, place in stand.items():
        if place in found:  # was named by an option
            continue
        given = [index for index, one in enumerate(found) if isinstance(one, str) and Path(one) == results[name]]
        if given:
            found[given[0]] = place
        else:
            found += [f"--{name}", place]
    return found


def _quoted(words: Sequence[str]) -> list[str]:
    """The words of another command as one, less the options of every command that ``config show`` takes itself."""
    own = [word for word in words if word in ("--json", "--quiet")]
    return [*own, json.dumps([word for word in words if word not in own])]


def _catch_signals(before: dict[int, Any]) -> None:
    """Let SIGTERM and SIGHUP raise, but what is ignored (nohup), and note in ``before`` who handled them.

    Nothing outside the main thread, which alone may set handlers.
    """

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if handler != signal.SIG_IGN:
            before[number] = handler
            signal.signal(number, stop)


def _restore(before: dict[int, Any]) -> None:
    """Put back who handled signals before."""
    for number, handler in before.items():
        signal.signal(number, handler)
