"""The command line as a whole: overview, exit statuses, doctor."""

import json
import os
import subprocess
import sys

import pytest

from pyws import cli
from pyws.commands.common import Common


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pyws.cli", *words], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_overview_lists_every_command(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"  {name} " in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_and_takes_the_common_options(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*name.split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--json", "--seed", "--device", "--quiet"):
        assert option in shown


def test_unknown_command_and_option(capsys):
    assert cli.main(["unheard-of"]) == 2
    assert "usage: pyws" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--unheard-of"])
    assert caught.value.code == 2


def test_doctor_json_is_one_document(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["core"]["cpu_path"] in report["core"]["cpu_paths"]
    assert report["packages"]["torch"]
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
