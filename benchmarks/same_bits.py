"""Whether two states of pyws give the same bits: hashes of what operations return and what commands write.

python benchmarks/same_bits.py --write OLD.json             with the one pyws installed; --only PREFIX for a part
python benchmarks/same_bits.py --write NEW.json             with the other
python benchmarks/same_bits.py --compare OLD.json NEW.json  hashes side by side; the exit status is 1 where they differ

Operations run on seeded inputs with each instruction set of the processor and several numbers of threads, commands
with one thread on synthetic sets, and on a little real data where ../shared (or PYWS_SHARED) has it. Only public names
are used. Hashed are values: tensors without their names, numbers of JSON files without keys and settings, pixels of
pictures. Neither times, versions, paths nor reports count.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from same_bits_operations import OPERATIONS
from torch import Tensor

import pyws

THREADS = (1, 2, 3)
SHARED = Path(os.environ.get("PYWS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def digest(value: Any) -> str:
    """SHA-256 of a value: dtype, shape and bytes of tensors, fields of what holds tensors."""
    if isinstance(value, Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        value = f"{value.dtype} {tuple(value.shape)} {_sha(data)}"
    elif isinstance(value, np.ndarray):
        value = f"{value.dtype} {value.shape} {_sha(np.ascontiguousarray(value).tobytes())}"
    elif isinstance(value, Mapping):
        value = [(key, digest(value[key])) for key in sorted(value)]
    elif isinstance(value, (list, tuple)):
        value = [digest(item) for item in value]
    elif hasattr(value, "__dict__"):
        value = digest(tuple(vars(value).values()))
    return _sha(value)


def _sha(value: Any) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).hexdigest()[:16]


def hash_operations(only: str) -> dict[str, str]:
    """One hash an operation, label and instruction set, over all shapes and numbers of threads."""
    module = importlib.import_module("pyws._C")
    results: dict[str, list[str]] = {}
    for function, path in itertools.product(OPERATIONS, module.cpu_paths()):
        title = f"ops {function.__name__}"
        if not f"{title} ".startswith(only) and not only.startswith(title):
            continue
        module.set_cpu_path(path)
        for threads in THREADS:
            torch.set_num_threads(threads)
            for label, result in function(torch.Generator().manual_seed(11)):
                results.setdefault(f"{title} {label} [{path}]".replace("torch.", ""), []).append(digest(result))
    torch.set_num_threads(1)
    return {name: _sha(found) for name, found in results.items()}


# Commands: lists of words that run one after the other in a folder; what they write is hashed.

RUN = """
import contextlib, importlib.metadata, io, json, sys
(entry,) = importlib.metadata.entry_points(group="console_scripts", name="pyws")
main, documents = entry.load(), []
for words in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        if main(words):
            sys.exit("failed: " + " ".join(words))
    documents.append(said.getvalue())
json.dump(documents, sys.stdout)
"""
SETTINGS = {
    "settings", "config", "parameters", "rules", "init", "format", "out", "chosen", "scene", "label_space",
    "seconds", "seed", "options",
}  # fmt: skip
NUMBERED = re.compile(r"\d{3}|_\d\d|seed|^[0-9a-f]{12,}$")  # one of many folders or files
SKIPPED = ("run.json", "settings.json", "dataset.json", "last.safetensors", "last.previous.safetensors")


def run_commands(folder: Path, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """The JSON documents that the commands print."""
    lines = [[*(str(word) for word in words), "--seed", "0", "--device", "cpu", "--json"] for words in commands]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(lines), cwd=folder, env=environment, text=True,
        capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(document) for document in json.loads(done.stdout)]


@functools.cache
def help_of(command: str) -> str:
    """The help of a command without its frame, with every option where the short help leaves some out."""
    main = "from importlib.metadata import entry_points as e; list(e(group='console_scripts', name='pyws'))[0].load()"
    lines = ([sys.executable, "-c", f"{main}({[*command.split(), word]!r})"] for word in ("--help-all", "--help"))
    said = "".join(subprocess.run(words, capture_output=True, text=True).stdout for words in lines)
    return re.sub(r"[\s│]+", " ", said)


def option(command: str, *spellings: str) -> str:
    """The spelling of an option that the installed command knows; words were changed, their sense was not."""
    known = [spelling for spelling in spellings if re.search(rf" {re.escape(spelling)} ", help_of(command))]
    if not known:
        raise SystemExit(f"pyws {command} --help names none of {', '.join(spellings)}")
    return known[0]


def without_pseudo_labels() -> str:
    """The preset of segments train that is none of GauFuse's, however it is called."""
    choices, *_ = re.findall(r"--preset \{([^}]*)\}", help_of("segments train"))
    (preset,) = set(re.findall(r"[\w-]+", choices)) - {"pyws", "paper", "released"}
    return preset


def demo() -> list[list[Any]]:
    return [["demo", "-o", "demo"]]


def segments() -> list[list[Any]]:
    sizes = ["--training", 12, "--test", 6, "--width", 16, "--snippets", 40, "--classes", 3]
    commands: list[list[Any]] = [["data", "synthesize", "set", *sizes]]
    for layout in ("wtalc", "split"):
        commands.append(["data", "synthesize", layout, "--layout", layout, *sizes])
        commands.append(["data", "convert", layout, f"from-{layout}"])
        commands.append(["data", "check", layout])
    options = ["--subset", "training", "--evaluate", "test", "--evaluate-every", 6, "--lr", "1e-3", "--quiet"]
    train = ["segments", "train", "set", *options, "--epochs", 6]
    for backbone, preset in itertools.product(("rskp", "stpn", "bm", "wum", "facnet"), ("pyws", "paper", "released")):
        commands.append([*train, "--backbone", backbone, "--preset", preset, "-o", f"{backbone}-{preset}"])
    commands.append([*train, "--preset", without_pseudo_labels(), "-o", "rskp-alone"])
    commands.append([*train, "--backbone", "stpn", "--two-streams", "-o", "stpn-two-streams"])
    predict = ["segments", "predict", "set", "--subset", "test", "--checkpoint"]
    for number, backbone in enumerate(("rskp", "stpn", "bm", "wum", "facnet")):
        method = ("none", "nms", "gaussian", "exponential", "t")[number]
        commands.append([*predict, f"{backbone}-paper/best.safetensors", "-o", f"{backbone}.json"])
        commands.append([*predict, f"{backbone}-pyws/best.safetensors", "--method", method, "-o", f"{method}.json"])
    commands.append([*predict, "rskp-alone/last.safetensors", "--method", "none", "-o", "proposals.json"])
    return commands + _from_proposals("proposals.json", "set/truth.json", "test", "")


def _from_proposals(proposals: Any, truth: Any, subset: str, name: str) -> list[list[Any]]:
    commands: list[list[Any]] = []
    for method in ("none", "nms", "soft-nms", "gaussian", "uniform", "exponential", "t"):
        commands.append(["segments", "fuse", proposals, f"{name}{method}-fused.json", "--method", method])
    commands.append(["segments", "fuse", proposals, f"{name}own.json", "--overlap", "own", "--sign-weights"])
    commands.append(["segments", "fuse", proposals, f"{name}support.json", "--ranking", "support", "--snap", "nearest"])
    for preset, rows in itertools.product(("paper", "released"), ("sum", "mean")):
        out = f"{name}{preset}-{rows}.safetensors"
        words = ["--preset", preset, "--rows", rows, "--only-tags"]
        commands.append(["segments", "labels", proposals, truth, out, *words])
    for protocol in ("thumos14", "activitynet", "wtalc"):
        words = [f"{name}gaussian-fused.json", truth, "--subset", subset, "--protocol", protocol]
        commands.append(["segments", "evaluate", *words, "--explain", f"{name}nms-fused.json"])
    return [*commands, ["segments", "compare", proposals, truth, f"{name}compare", "--subset", subset, "--quiet"]]


def ablate() -> list[list[Any]]:
    return [["segments", "ablate", "parts", "--backbones", "stpn", "--epochs", 7, "--videos", 8, "--quiet"]]


def masks() -> list[list[Any]]:
    sizes = ["--train", 8, "--validation", 3, "--test", 3, "--frames", 8, "--height", 64, "--width", 80]
    power = option("masks init", "--power", "--sharpness")
    frames = option("masks init", "--max-frames", "--most-frames")
    prefix = option("masks train", "--disc.width", "--discriminator.width").removesuffix(".width")
    size = option("masks train", "--classifier-size", "--cls-size")
    actor = ["--network", "small2d", "--short-side", 64, "--epochs", 8, "--samples", 4, "--schedule", "one-cycle"]
    action = ["--network", "small3d", "--short-side", 48, "--frames", 8, "--epochs", 2, "--loss", "bce"]
    adam = ["--optimizer", "adamw", "--head-lr", "3e-3", "--quiet"]
    init = ["masks", "init", "--data", "set", "--subset", "train", "val", "--region-area", 40, "--quiet"]
    weights = ["--weights", "actor.safetensors", "--classifier-weights", "actor.safetensors", "--backbone", "small2d"]
    train = ["masks", "train", "first", *weights, "--crop", 48, "--batch", 4, "--max-epoch", 4, "--max-versions", 2]
    train += ["--outer-tolerance", 0, size, 64, "--scale", 0.8, 1.25, "--lr", 0.02, "--quiet"]
    steps = option("masks train", "--discriminator.steps", "--discriminator.epochs", "--disc.epochs")
    train += [f"{prefix}.width", 8, steps, 2, f"{prefix}.batch", 16]
    video = "set/Release/pngs320H/synthetic_0011"
    return [
        ["data", "synthesize-a2d", "set", *sizes, "--actor-size", 24, 36],
        ["data", "check", "set"],
        ["masks", "classify", "set", "-o", "actor.safetensors", "--what", "actor", *actor, *adam],
        ["masks", "classify", "set", "-o", "action.safetensors", "--what", "action", *action, *adam],
        ["masks", "maps", video, "-o", "maps", "--network", "small3d", "--weights", "action.safetensors", "--quiet"],
        [*init, "-o", "first", "--actor-classifier", "actor.safetensors"],
        [*init, "-o", "pairs", "--actor-classifier", "actor.safetensors", "--action-classifier", "action.safetensors",
         "--otsu-per", "clip"],
        [*init, "-o", "scales", "--actor-classifier", "actor.safetensors", "--scales", 0.75, 1, "--mirror", power, 2,
         frames, 3, "--beta-on", "component", "--otsu-resolution", "map"],
        [*train, "-o", "ws2", "--refine-pa", "--per-component", "--label-tests", "both", "--min-per-class", 1],
        [*train, "-o", "model-s", "--variant", "model-s", "--heads", "factorised"],
        [*train, "-o", "baseline", "--variant", "baseline", "--validation", "frames", "--start", "previous"],
        ["masks", "predict", "baseline", video, "-o", "predicted", "--refine", "--quiet"],
        ["masks", "evaluate", "first/pa/v0", "set", "--subset", "train"],
        ["masks", "evaluate", "predicted/masks", "set", "--missing", "skip"],
    ]  # fmt: skip


def davis() -> list[list[Any]]:
    """Real frames and a real classifier."""
    frames = option("masks init", "--max-frames", "--most-frames")
    weights, sequences = SHARED / "data/classifiers/efficientnet-lite0-57934424.pth", SHARED / "data/davis"
    if not (weights.exists() and sequences.is_dir()):
        return []
    words = ["--classifier", "efficientnet-lite0", "--weights", weights, "--short-side", 224, frames, 3, "--quiet"]
    videos = [sequences / "JPEGImages/480p" / name for name in ("blackswan", "dog")]
    return [
        ["masks", "init", videos[0], "-o", "swan", "--tag", "swan", *words],
        ["masks", "init", videos[1], "-o", "dog", "--tag", "dog", *words, "--scales", 0.6, 1, "--mirror"],
        ["masks", "evaluate", "dog/pa/v0", sequences / "Annotations/480p", "--missing", "skip"],
    ]


def watch() -> list[list[Any]]:
    """Real recordings and real ground truth."""
    source, truth = (SHARED / "data" / path for path in ("temporal/seglearn_watch_f32.npz", "thumos_gt"))
    if not (source.exists() and truth.is_dir()):
        return []
    train = ["segments", "train", "streams", "--subset", "training", "--evaluate", "test", "--epochs", 5, "--quiet"]
    return [
        ["data", "watch", "streams", "--source", source, "--streams", 1],
        ["data", "convert", truth / "Thumos14reduced-Annotations", "thumos14.json"],
        [*train, "--evaluate-every", 5, "-o", "run"],
    ]


WORKFLOWS = (demo, segments, ablate, masks, davis, watch)


def hash_commands(only: str) -> dict[str, str]:
    """One hash a document that is printed, and one a folder and kind of file that is written."""
    hashes = {}
    for workflow in WORKFLOWS:
        name = f"pyws {workflow.__name__}"
        if not name.startswith(only) and not only.startswith(name):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder, commands = Path(scratch), workflow()
            documents: dict[str, list[str]] = {}
            for words, document in zip(commands, run_commands(folder, commands) if commands else (), strict=True):
                written = f" {words[words.index('-o') + 1]}" if "-o" in words else ""
                said = f"{name}: {' '.join(words[:2] if words[0] != 'demo' else words[:1])}{written} --json"
                documents.setdefault(said, []).append(digest(numbers(document)))
            hashes.update({said: _sha(found) for said, found in documents.items()})
            hashes.update({f"{name}: {group}": value for group, value in hash_files(folder).items()})
    return hashes


def hash_files(folder: Path) -> dict[str, str]:
    """One hash for each file, and for each kind of file in folders of many, such as those of videos."""
    groups: dict[str, list[Any]] = {}
    for path in sorted(folder.rglob("*")):
        contents = read(path) if path.is_file() and path.name not in SKIPPED else None
        if contents is not None:
            *parents, name = path.relative_to(folder).parts
            kind = "*" + "".join(path.suffixes) if NUMBERED.search(name) or parents[1:] else name
            group = "/".join(["*" if NUMBERED.search(part) else part for part in parents] + [kind])
            groups.setdefault(group, []).append((name, digest(contents)))
    return {f"{group} ({len(files)})" if "*" in group else group: _sha(files) for group, files in groups.items()}


def read(path: Path) -> Any:
    """The values in a file; None for a kind of file that is for people, or says how it was made."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return sorted(digest(tensor) for tensor in load_file(path).values())
    if path.suffix in (".png", ".jpg"):
        from PIL import Image

        with Image.open(path) as image:
            return image.mode, np.asarray(image)
    if path.suffix in (".npy", ".csv"):
        return path.read_bytes()
    if path.suffix == ".jsonl":
        return [numbers(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffixes[-2:] == [".json", ".gz"] or path.suffix == ".json":
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt") as file:
            return numbers(json.load(file))
    return None


def numbers(value: Any) -> Any:
    """What was found, without what it is called: no keys but those of public forms, no texts, no settings."""
    if isinstance(value, dict):
        for kept in ("database", "annotations"):  # ActivityNet's and COCO's forms are public
            if kept in value and "mAP" not in value:
                return value[kept]
        if isinstance(value.get("results"), dict) and "version" in value:
            return value["results"]
        value = [item for key, item in value.items() if key not in SETTINGS]
        return sorted((numbers(item) for item in value if not isinstance(item, str)), key=repr)
    if isinstance(value, list):
        return [numbers(item) for item in value if not isinstance(item, str)]
    return value


def write(path: Path, only: str) -> None:
    """Compute all hashes."""
    began = time.perf_counter()
    source = Path(pyws.__file__).parents[1]
    git = ["git", "-C", str(source)]
    files = subprocess.run([*git, "ls-files", "csrc", "pyws"], capture_output=True, text=True).stdout.split()
    lines = sum((source / name).read_bytes().count(b"\n") for name in files if (source / name).exists())
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    hashes = {**hash_operations(only), **hash_commands(only)}
    document = {"commit": commit, "files": len(files), "lines": lines, "hashes": hashes}
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{commit}: {len(hashes)} hashes in {time.perf_counter() - began:.0f} s")


def compare(old_path: Path, new_path: Path) -> int:
    """Print both columns; 1 where they differ or one lacks a row."""
    old, new = (json.loads(path.read_text()) for path in (old_path, new_path))
    different = 0
    names = list(dict.fromkeys([*old["hashes"], *new["hashes"]]))
    for name in names:
        one, other = old["hashes"].get(name, "-"), new["hashes"].get(name, "-")
        different += one != other
        print(f"{one:16}  {other:16}  {'same' if one == other else 'DIFFERENT':9}  {name}")
    print(f"{old['commit']} and {new['commit']}: {different} of {len(names)} hashes differ")
    print(f"lines of csrc and pyws: {old['lines']} in {old['files']} files, {new['lines']} in {new['files']} files")
    return int(different > 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--write", type=Path, metavar="FILE.json")
    task.add_argument("--compare", type=Path, nargs=2, metavar=("OLD.json", "NEW.json"))
    parser.add_argument("--only", default="", metavar="PREFIX", help='of the rows, e.g. "ops slic" or "pyws masks"')
    options = parser.parse_args()
    if options.compare:
        return compare(*options.compare)
    write(options.write, options.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
