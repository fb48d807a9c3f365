"""A folder that a command makes once is whole with its hashes, or the same command goes on: whatever the step."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("steps.py")


@pytest.mark.parametrize("name", ["data convert", "data synthesize-a2d", "export csv"])
def test_a_command_that_is_killed_at_any_step_goes_on(name):
    done = subprocess.run([sys.executable, SCRIPT, name], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
