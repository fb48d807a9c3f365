"""The command line as a whole: overview, exit statuses, doctor."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import warnings
from typing import Annotated, Optional

import pytest
import torch

import pyws
from pyws import cli
from pyws.commands.common import Common
from pyws.errors import shown
from pyws.models.devices import has_bfloat16
from pyws.ops._library import dispatch_is_skipped
from pyws.settings import Presets, expand


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pyws", *words], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_overview_lists_every_command(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"  {name} " in shown


def test_help_imports_no_command_and_no_torch():
    code = "import sys; from pyws import cli; cli.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "tyro", "pyws.commands.doctor"} & set(done.stderr.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_and_takes_the_common_options(name, capsys):
    assert cli.main([*name.split(), "--help"]) == 0
    short = capsys.readouterr().out
    assert cli.main([*name.split(), "--help-all"]) == 0
    shown = capsys.readouterr().out
    for option in ("--json", "--seed", "--device", "--quiet"):
        assert option in short
        assert option in shown
    assert "show this help; --help-all shows every option" in short
    assert "examples:\n  pyws " in short
    optional = [p for p in inspect.signature(cli.load(name)).parameters.values() if p.default is not p.empty]
    assert ("--help-all\n\nexamples" in short) == (len(optional) > 13)  # common is one of them


def test_a_group_shows_its_commands(capsys):
    for words in (["masks"], ["masks", "--help"]):
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        assert "masks init" in shown
        assert "segments train" not in shown


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pyws {pyws.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mask init", "unknown command 'mask init'; did you mean 'masks init'?"),
        ("train", "unknown command 'train'; did you mean 'segments train'?"),
        ("doctor --jsn", "unknown option --jsn; did you mean --json?"),
        ("doctor --zzzzzzzz", "unknown option --zzzzzzzz\n"),
        ("segments train data", "needs -o PATH, --out PATH"),
        ("segments train data -o run --epochs many", "--epochs must be INT, got many"),
        ("segments train data -o run --set epochs=many", "--epochs must be INT, got many"),
        ("segments train data -o run --seed 1.5 --quiet", "--seed must be INT, got 1.5"),
        ("segments fuse a b --iou -inf --quiet", "--iou must be finite FLOAT, got -inf"),
        ("segments train data -o run --temperature=1e999", "--temperature must be finite FLOAT, got 1e999"),
        ("data synthesize-a2d out --actor-size 1 nan", "--actor-size must be finite FLOAT FLOAT, got 1 nan"),
        ("masks init v --tags t -o out --scales 1 x", "--scales must be [FLOAT [FLOAT ...]], got 1 x"),
        ("segments fuse a b --method x", "--method must be one of exponential, gaussian, nms, none, soft-nms, t,"),
        ("doctor --seed -1", "--seed: must be at least 0 and less than 2^63, got -1"),
        ("features v -o out --window 0", "--window: must be >= 1, got 0"),
        ("features v -o out --folder-fps -1", "--folder-fps: must be > 0, got -1.0"),
        ("ray features --shards 0", "--shards: must be >= 1, got 0"),
        ("segments train data -o run --set epochs", "--set: must be PATH=VALUE"),
    ],
)
def test_wrong_words_get_two_lines(words, said, capsys):
    assert cli.main(words.split()) in (1, 2)
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.splitlines()) <= 2


def test_settings_of_a_file_and_by_path_are_options(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('backbone = "wum"\ntious = [0.3, 0.5]\ntwo-streams = true\nepochs = 7\n')
    words = ["data", "-o", "run", "--config", str(tmp_path / "run.toml"), "--set", "batch=3", "--epochs", "9"]
    words += ["--method", "t", "--snap", "none"]
    found = cli.parse("segments train", words)
    assert (found["postprocessing"].method, found["postprocessing"].snap) == ("t", "none")
    assert (found["backbone"], found["tious"], found["two_streams"]) == ("wum", (0.3, 0.5), True)
    assert (found["batch"], found["epochs"], str(found["data"])) == (3, 9, "data")
    assert cli.main(["config", "show", "segments", "train", *words]) == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    again = cli.parse("segments train", ["data", "-o", "run", "--config", str(tmp_path / "shown.toml")])
    assert {**again, "data": found["data"]} == found


@pytest.mark.parametrize(
    ("text", "said"), [("a = [", "must be TOML"), ("epochs = 1979-05-27", "epochs must be a string")]
)
def test_a_settings_file_that_is_none_is_named(text, said, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    assert cli.main(["segments", "train", "data", "-o", "run", "--config", str(tmp_path / "run.toml")]) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert "run.toml" in shown


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "found"), [("se", "segments"), ("masks cl", "classify"), ("segments fuse --iou", "--iou")]
)
def test_bash_completes(typed, found, tmp_path, capsys):
    assert cli.main(["--completion"]) == 0
    (tmp_path / "pyws.bash").write_text(capsys.readouterr().out)
    words = ["pyws", *typed.split()]
    given = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
    code = f"source {tmp_path}/pyws.bash; {given}; _pyws; echo ${{COMPREPLY[*]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]


@pytest.mark.parametrize(
    ("number", "handler", "ends"),
    [
        ("SIGTERM", "SIG_DFL", (143, "pyws doctor: terminated; what is written so far is whole")),
        ("SIGHUP", "SIG_DFL", (129, "pyws doctor: hung up; what is written so far is whole")),
        ("SIGHUP", "SIG_IGN", (0, "")),  # nohup
    ],
)
def test_signals_end_a_command_as_ctrl_c_does(number, handler, ends):
    code = (
        f"import os, signal, sys, types; signal.signal(signal.{number}, signal.{handler}); from pyws import cli\n"
        f"def wait(common=None): os.kill(os.getpid(), signal.{number}); return {{}}\n"
        "common = types.SimpleNamespace(json=False)\n"
        "cli.load, cli.parse = lambda name: wait, lambda name, words, command: {'common': common}\n"
        "sys.exit(cli.main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr.partition(",")[0].strip()) == ends


@pytest.mark.parametrize("when", ["handlers are set", "an error is said", "handlers are put back"])
def test_signals_that_come_beside_the_work_end_a_command_in_words_too(when):
    """And whoever handled them before does so again."""
    code = (
        "import os, signal, sys; from pyws import cli\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup
        "when, term, real, says = sys.argv[1], signal.SIGTERM, signal.signal, cli._end_with\n"
        "def kill(now):\n"
        "    global when\n"
        "    if when == now: when = ''; os.kill(os.getpid(), term)\n"
        "def put(number, handler):\n"
        "    if handler is signal.SIG_DFL: kill('handlers are put back')\n"
        "    real(number, handler)\n"
        "    if number == signal.SIGHUP: kill('handlers are set')\n"
        "def end(words):\n"
        "    kill('an error is said'); says(words)\n"
        "def failing(*_): raise ValueError('bad')\n"
        "signal.signal, cli._end_with, cli._run = put, end, failing\n"
        "status = cli.main(['doctor'])\n"
        "assert signal.getsignal(term) == signal.SIG_DFL\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, when], capture_output=True, text=True, timeout=50)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pyws doctor: terminated; what is written so far is whole")


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")


@needs_full
@pytest.mark.parametrize(
    ("words", "full", "ends"),
    [
        ("--help", ">", (1, "pyws: standard output: cannot be written: No space left on device\n")),
        ("doctor --json", ">", (1, "pyws doctor: standard output: cannot be written: No space left on device\n")),
        ("nonsense", "2>", (2, "")),
        ("masks train", "2>", (2, "")),
        ("doctor --nonsense", ">/dev/full 2>", (2, "")),
    ],
)
def test_streams_on_a_full_disk(words, full, ends):
    code = f"{sys.executable} -m pyws {words} {full}/dev/full"
    for unbuffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(["bash", "-c", code], env=environment, capture_output=True, text=True, timeout=50)
        assert (done.returncode, done.stderr) == ends


@needs_full
def test_progress_that_cannot_be_written_stops_no_work():
    code = "from pyws.progress import track; print(list(track([1, 2], 'reading', quiet=False)))"
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" 2>/dev/full'], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[1, 2]\n")


@pytest.mark.parametrize(
    ("text", "status", "rule"),
    [
        ("epochs = 'many'", 2, "--epochs must be INT, got many"),
        ("lr = true", 2, "--lr"),
        ("lr = [1, 2]", 2, "2 is a value of no option: one has too many, or takes none"),
        ("tensorboard = 'yes'", 2, "yes is a value of no option"),
        ("[schedule]\nx = 1", 2, "unknown option --schedule.x"),
        ("help = true", 1, "must have names of options as keys, got 'help'"),
        ("config = 'other.toml'", 1, "must have names of options as keys, got 'config'"),
        ("'.' = 1", 1, "must have names of options as keys, got '.'"),
        ("'' = 1", 1, "must have names of options as keys, got ''"),
        ("'lr=2' = 1", 1, "must have names of options as keys, got 'lr=2'"),
        ("subset = '--out=elsewhere'", 1, "subset must be a value without a dash before it"),
        ("tious = [0.1, '--out=elsewhere']", 1, "tious must be a value without a dash before it"),
        ('out = "a\\u0000b"', 1, "out must be a value without a dash before it, or a NUL"),
        ("x = ", 1, "must be TOML"),
    ],
)
def test_what_is_wrong_with_a_file_of_settings_is_said_with_its_name(text, status, rule, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(text)
    assert cli.main(["segments", "train", "data", "-o", f"{tmp_path}/run", "--config", str(file)]) == status
    said = capsys.readouterr().err
    assert f"{file}: " in said
    assert rule in said


def test_what_is_wrong_on_the_command_line_is_not_laid_to_a_file(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text("epochs = 3")
    for words in (["--epoch", "many"], []):  # nothing says where to write
        assert cli.main(["segments", "train", "data", "--config", str(file), *words]) == 2
        assert "run.toml" not in capsys.readouterr().err
    file.write_bytes(b"\xef\xbb\xbfepochs = 3")  # as editors of Windows write it
    assert cli.parse("segments train", ["data", "-o", "x", f"--config={file}"])["epochs"] == 3


@pytest.mark.parametrize("words", ["--help", "doctor --help", "config show masks train"])
def test_a_reader_that_leaves_is_no_error(words):
    code = f"{sys.executable} -m pyws {words} | exec true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", f"trap '' PIPE; {code}"], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(closed, tmp_path):
    code = (
        "import os, sys; from pyws import cli, progress\n"
        "def tell(common=None):\n"
        "    fine = list(progress.track([1], 'reading', quiet=False)) == [1]\n"
        "    low = os.open('low', os.O_CREAT | os.O_WRONLY); os.write(2, b'lost')\n"
        "    open('told', 'w').write(f'{fine} {low > 2} {os.path.getsize(\"low\")}'); return {}\n"
        "cli.load, cli.parse = lambda name: tell, lambda name, words, command: {'common': Common()}\n"
        "from pyws.commands.common import Common\n"
        "sys.argv[1:] = ['doctor']; sys.exit(cli.main())"
    )
    done = subprocess.run(["bash", "-c", f'{sys.executable} -c "$0" {closed}', code], cwd=tmp_path, timeout=50)
    assert done.returncode == 0
    assert (tmp_path / "told").read_text() == "True True 0"


def test_doctor_shows_what_was_asked_before_what_was_found(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["doctor"]) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    found = dict(row for row in rows if len(row) == 2)
    assert found["pyws"] == pyws.__version__
    assert found["torch"] == torch.__version__.split("+")[0]
    assert found["devices threads"] == str(torch.get_num_threads())
    assert found["devices cuda"] == ("none" if not torch.cuda.is_available() else torch.cuda.get_device_name(0))


def test_doctor_json_is_one_document(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["core"]["cpu_path"] in report["core"]["cpu_paths"]
    assert report["packages"]["torch"]
    assert report["core"]["dispatch_skipped"] is dispatch_is_skipped()
    assert ("cpu" in report["devices"]["bfloat16"]) is has_bfloat16(torch.device("cpu"))
    assert isinstance(report["problems"], list)


@pytest.mark.parametrize("path", ["portable", "avx2", "avx512"])
def test_environment_forces_the_cpu_path(path):
    from pyws import _C

    code = "from pyws import _C; print(_C.cpu_path())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYWS_CPU": path}
    )
    if path in _C.cpu_paths():
        assert done.stdout == f"{path}\n"
    else:
        assert "this machine or build has no" in done.stderr


def test_environment_with_an_unknown_path_is_refused():
    done = run("doctor", PYWS_CPU="sse9")
    assert done.returncode != 0
    assert "PYWS_CPU: must be portable, avx2 or avx512, got sse9" in done.stderr


def test_what_a_command_says_is_no_markup(capsys):
    Common().say("segment must be [start, end], got [9.0, 3.0]")
    assert capsys.readouterr().out == "segment must be [start, end], got [9.0, 3.0]\n"


def test_only_the_command_line_sets_the_allocator_and_threads(monkeypatch, capsys):
    """Never the library: a caller of main keeps the allocator that it chose. What the user says of threads counts."""
    calls = []
    monkeypatch.setattr(cli, "_keep_freed_memory", lambda: calls.append(1))
    for one in ("_collect_seldom", "_warn_in_words"):  # what else is of the whole process
        monkeypatch.setattr(cli, one, lambda: None)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert cli.main(["--version"]) == 0
    assert not calls
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    monkeypatch.setattr(sys, "argv", ["pyws", "--version"])
    for said, threads in ((None, "1"), ("3", "3")):
        if said:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", said)
        assert cli.main() == 0
        assert os.environ["OPENBLAS_NUM_THREADS"] == threads
    assert len(calls) == 2


def test_only_the_command_line_has_warnings_in_words(monkeypatch, capsys):
    """Those of pyws say what they say; those of others, and of other kinds, stay as they are."""

    def usual(message, kind, file, line, text=None):
        return f"{file}:{line}: {kind.__name__}: {message}"

    monkeypatch.setattr(warnings, "formatwarning", usual)
    monkeypatch.setattr(cli, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["pyws", "--version"])
    said = (UserWarning("odd\nrate"), UserWarning, cli.__file__, 3)
    assert cli.main(["--version"]) == 0
    assert "cli.py:3: UserWarning: odd" in warnings.formatwarning(*said)
    assert cli.main() == 0
    assert warnings.formatwarning(*said) == f"warning: {shown('odd' + chr(10) + 'rate')}\n"
    for kind, file in ((DeprecationWarning, cli.__file__), (UserWarning, "/other.py")):
        assert f"{file}:3: {kind.__name__}: odd" in warnings.formatwarning(kind("odd"), kind, file, 3)


def test_numpy_is_not_there_before_its_threads_are_set():
    """It reads the number of its threads when it is imported."""
    code = "import sys, pyws.cli; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_preset_is_found_where_python_makes_its_parameter_optional() -> None:
    """As Python 3.10 does with the default None: Optional[Annotated[...]]."""

    def command(preset: Optional[Annotated[str, Presets({"slow": {"lr": 0.1}})]] = None, lr: float = 1.0) -> None:  # noqa: UP045
        raise AssertionError((preset, lr))

    assert expand(["--preset", "slow"], command) == ["--lr", "0.1", "--preset", "slow"]


@pytest.mark.parametrize(
    "error", [ImportError("libtorch_cpu.so: failed to map segment from shared object"), MemoryError()]
)
def test_too_little_memory_is_said_in_a_line(monkeypatch, capsys, error):
    def load(name):
        raise error

    monkeypatch.setattr(cli, "load", load)
    assert cli.main(["report", "run"]) == 1
    said = capsys.readouterr().err
    assert "there is not enough memory, or a limit on it (ulimit -v) is too low: " in said
    assert len(said.splitlines()) == 1


def test_a_module_that_is_missing_is_no_lack_of_memory(monkeypatch):
    def load(name):
        raise ImportError("No module named 'nothing'")

    monkeypatch.setattr(cli, "load", load)
    with pytest.raises(ImportError, match="nothing"):
        cli.main(["report", "run"])
