"""What people read while they wait: how far, how long, in their units."""

import sys

import pytest

from pyws import progress
from pyws.progress import Pace, track


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_batches_are_counted_as_what_they_hold(clock, capsys):
    for _ in track([[1] * 8, [1] * 8, [1] * 4], "clip, frames", size=len):
        clock.now += 6
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["clip, frames: 8/20, 9 s left", "clip, frames: 16/20, 3 s left", "clip, frames: 20/20 done"]


def test_a_training_says_how_long_it_takes_after_its_first_steps(clock, capsys):
    pace = Pace("training wum", 7000)
    pace.step()
    assert capsys.readouterr().err == ""
    clock.now += 32
    pace.step()
    said = capsys.readouterr().err
    assert said == "training wum: about 31 h on this machine (16 s a step, 7000 steps)\n"
    clock.now += 32
    pace.step()
    pace.show(1, 350, {"loss": 0.51234, "mAP": None})
    assert capsys.readouterr().err == "training wum: epoch 1/350, loss 0.5123, about 41 h left\n"
    pace.show(2, 350, {"loss": 0.5})
    assert capsys.readouterr().err == ""
    pace.show(350, 350, {"loss": 0.4})  # steps that were planned and not needed are no time that is left
    assert capsys.readouterr().err == "training wum: epoch 350/350, loss 0.4\n"


def test_items_come_once_and_nothing_goes_to_standard_output(clock, capsys):
    assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    assert list(track(iter("ab"), "reading")) == ["a", "b"]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "counting: 3/3 done\nreading: 2 done\n")


def test_quiet_says_nothing(clock, capsys):
    pace = Pace("a", 10, quiet=True)
    clock.now += 60
    pace.step()
    pace.show(1, 1, {})
    assert list(track([1], "b", quiet=True)) == [1]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seen", [False, True])
def test_no_work_is_no_line(seen, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: seen)
    assert list(track([], "pictures")) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_names_of_videos_are_shown_as_they_are(terminal, monkeypatch, capsys):
    """A newline stays in its line, and brackets are no markup."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "100")
    assert list(track([1, 2], "[/x]new\nline [red]a, frames")) == [1, 2]
    assert "[/x]new\\nline [red]a, frames" in capsys.readouterr().err
