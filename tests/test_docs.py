"""What README and docs/ show: commands that are taken, options that exist, Python that runs, examples of the rest."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import torch

import pyws
from pyws import cli
from pyws.commands import usage

ROOT = Path(__file__).parent.parent
SPAN = re.compile(r"`([^`\n]+)`")
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts)),
]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    """(page, words) of each ``pyws ...`` that a page shows in a block, alone or after ``&&``, or with its arguments in
    the text."""
    for page in PAGES:
        lines = [part for block in blocks(page, "bash") for line in joined(block) for part in line.split("&&")]
        spans = [span for span in SPAN.findall(page.read_text()) if "COMMAND" not in span and "--help" not in span]
        for line in lines + spans:
            words = shlex.split(line, comments=True)
            if words[:1] == ["pyws"] and (line in lines or len(words) > 3):
                yield name_of(page), words[1:]


def name_of(page):
    """A page of docs/ by its path there."""
    return str(page.relative_to(DOCS if DOCS in page.parents else ROOT))


def joined(block):
    return block.replace("\\\n", " ").splitlines()


COMMANDS = list(commands())


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}-{' '.join(w)[:40]}" for page, w in COMMANDS])
def test_commands_are_taken(page, words):
    name, rest = cli.split(words)
    assert name, f"{page} shows an unknown command: pyws {' '.join(words)}"
    cli.parse(name, rest)


EXAMPLES = [(name, line) for name in cli.COMMANDS for line in usage.examples_of(cli.load(name))]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_examples_of_commands_are_taken(name, line):
    words = shlex.split(line)
    assert words[0] == "pyws"
    assert cli.split(words[1:])[0] == name
    cli.parse(name, [word for word in cli.split(words[1:])[1] if word not in ("--config", "run.toml")])


def test_every_command_has_an_example():
    assert {name for name, _ in EXAMPLES} == set(cli.COMMANDS)


def test_every_command_is_shown():
    assert {cli.split(words)[0] for _, words in COMMANDS} == set(cli.COMMANDS)


def test_options_in_the_text_exist(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for name in cli.COMMANDS:
        assert cli.main([*name.split(), "--help-all"]) == 0
    option = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
    known = set(option.findall(capsys.readouterr().out)) | {
        "--nproc-per-node",
        "--completion",
        "--version",
        "--config",
        "--set",
        "--help-all",
    }
    for page in PAGES:
        shown = {name for span in SPAN.findall(page.read_text()) for name in option.findall(span)}
        assert shown <= known, f"{name_of(page)} shows options that no command has: {sorted(shown - known)}"


class Tiny(torch.nn.Module):
    """A network of pictures with a layer of that name."""

    def __init__(self):
        super().__init__()
        self.layer4, self.fc = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Linear(4, 8)

    def forward(self, pictures):
        return self.fc(self.layer4(pictures).relu().mean((2, 3)))


def labels(height, width):
    return torch.arange(height * width).reshape(1, height, width) // 64


def features(folder):
    from pyws.data.synthetic.features import SyntheticConfig, write_synthetic

    write_synthetic(folder / "watching", SyntheticConfig(classes=2, width=8), training=6, test=2)
    return {}


def videos(folder):
    from pyws.data.synthetic.a2d import GeneratedConfig, write_generated_a2d

    write_generated_a2d(folder / "A2D", config=GeneratedConfig(train=2, validation=1, test=1, frames=2))
    return {}


GIVEN = {  # what each Python block of a page takes for granted
    "reference/mask-data.md": [videos],
    "how-to/masks/first-masks.md": [
        lambda folder: {"model": Tiny().eval(), "clips": torch.rand(1, 3, 16, 16)},
        lambda folder: {"maps": torch.rand(1, 20, 30), "superpixels": labels(320, 480)},
    ],
    "how-to/masks/train-masks.md": [
        lambda folder: {"prediction": labels(8, 8), "annotation": labels(8, 8), "superpixels": labels(8, 8)},
    ],
    "how-to/masks/superpixels.md": [lambda folder: {"pyws": pyws, "images": torch.rand(1, 3, 48, 64)}],
    "how-to/segments/train-segments.md": [features],
}


def test_python_blocks_are_known():
    pages = [page for page in PAGES if page.parent not in (ROOT, DOCS / "tutorials")]  # test_tutorials.py runs those
    shown = {name_of(page): len(blocks(page, "python")) for page in pages}
    assert {name: count for name, count in shown.items() if count} == {name: len(GIVEN[name]) for name in GIVEN}


@pytest.mark.parametrize(("name", "index"), [(name, index) for name in GIVEN for index in range(len(GIVEN[name]))])
def test_python_blocks_run(name, index, tmp_path, monkeypatch):
    code = blocks(ROOT / "docs" / name, "python")[index].replace("epochs=35", "epochs=1")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), GIVEN[name][index](tmp_path))


@pytest.mark.parametrize("package", ["ops", "masks", "segments", "models", "evaluation"])
def test_public_functions_and_networks_have_an_example(package):
    module = importlib.import_module(f"pyws.{package}")
    for name in module.__all__:
        entry = getattr(module, name)
        acts = inspect.isfunction(entry) or issubclass(entry, torch.nn.Module) or hasattr(entry, "__enter__")
        assert not acts or ">>>" in inspect.getdoc(entry), f"pyws.{package}.{name}"


def test_pages_are_short():
    """But for results and reference, which are looked up and not read."""
    words = {name_of(page): len(page.read_text().split()) for page in PAGES if page.parent != ROOT}
    long = {name: n for name, n in words.items() if n > 1500 and name.split("/")[0] not in ("results", "reference")}
    assert long == {}


def test_files_named_in_the_text_exist():
    """Files of the package, the tests and the benchmarks; pictures name them too, without the folder pyws."""
    name = re.compile(r"(?<![\w/.])(?:pyws|tests|benchmarks|csrc)/[\w/]+\.\w+")
    for page in PAGES:
        missing = [path for path in name.findall(page.read_text()) if not (ROOT / path).exists()]
        assert missing == [], name_of(page)
    known = "\n".join(str(path) for path in (ROOT / "pyws").rglob("*.py"))
    for picture in (DOCS / "_static" / "pictures").glob("*.svg"):
        missing = [path for path in re.findall(r">([\w/]+\.py)<", picture.read_text()) if f"/{path}" not in known]
        assert missing == [], picture.name
