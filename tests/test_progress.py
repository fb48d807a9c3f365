"""Progress: every item once, plain lines where there is no terminal, silence when quiet."""

from pyws import progress


def test_plain_lines_and_quiet(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    assert list(progress.track([1, 2, 3], "counting")) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["counting: 1/3", "counting: 2/3", "counting: 3/3 done"]
    assert list(progress.track(iter([1]), "counting", quiet=True)) == [1]
    assert capsys.readouterr().err == ""


def test_unknown_total(capsys):
    assert list(progress.track(iter("ab"), "reading")) == ["a", "b"]
    assert capsys.readouterr().err == "reading: 2 done\n"
