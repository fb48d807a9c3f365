"""What the stages of pyws label take on this machine: each is run on a few frames of the user's own videos."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pyws.commands.label import stages
from pyws.commands.label.plan import Choices, Cost, Costs, Length, Work
from pyws.commands.label.stages import Job
from pyws.commands.label.tags import Route
from pyws.data.csv_table import write_table
from pyws.data.features.files import write_snippets
from pyws.data.video.decoders import PyAV
from pyws.data.video.frames import FrameFolder, Pixels, write_picture
from pyws.data.video.sampled import SampledVideo
from pyws.errors import DataError
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import WindowReader

SECONDS = 2.0  # that features are made for
FRAMES = 20  # frames of the video that is tried
TRIED = 3  # frames that get masks
EPOCHS = (1, 4)
VIDEOS = 8  # with features of noise, where there are so many


def calibrated(job: Job, work: Work, choices: Choices, network: SnippetNetwork | None) -> Costs:
    """Run each stage on two small amounts of work: what both take tells what begins a stage, and what a unit adds.

    Parameters
    ----------
    job : configuration of the run; nothing is written to its folder
    work : what the run has to do; stages without work are not tried
    choices : without a budget
    network : classifier of clips; None where there are no actions
    """
    units, found, decoding = work.units(choices), dict[str, Cost](), 0.0
    quiet = replace(job.common, json=False, quiet=True)
    with TemporaryDirectory(prefix="pyws-label-") as place:
        job = replace(job, common=quiet, out=Path(place), on_error="skip")
        if network is not None and units["features"]:
            found["features"], decoding, width = _features(job, choices, network)
            if work.learned:
                mean = units["features"] / max(1, len(work.actions))
                videos = min(VIDEOS, len(work.actions))
                found["segments"] = _segments(job, choices, videos, width, max(2, round(mean)))
            if units["maps"]:
                found["maps"] = _maps(job, work, choices, network.classifier.labels)
        if units["first masks"]:
            found |= _masks(job, work, choices)
    return Costs(found, decoding)


def _features(job: Job, choices: Choices, network: SnippetNetwork) -> tuple[Cost, float, int]:
    """Seconds of a snippet, and of decoding a second of video, by the first video that can be read; the width."""
    video = next(iter(job.with_tags(job.of_kind("action", "known action"))))
    reader = WindowReader(
        SampledVideo(video, choices.sampling.fps, 0.0, job.folder_fps), network.classifier, choices.sampling, batch=4
    )
    batches, width = [], 1  # seconds waited, seconds worked, snippets
    start = before = time.perf_counter()
    with suppress(DataError):
        for windows in reader:
            arrived = time.perf_counter()
            features, _ = network(windows)
            done, width = time.perf_counter(), features.shape[1]
            batches.append((arrived - before, done - arrived, len(windows)))
            before = done
            if done - start > SECONDS and len(batches) > 1:
                break
    reader.close()
    # The first batch warms up; where no other came it is all that is known.
    waited, worked, snippets = np.sum(batches[1:] or batches or [(0.0, 0.0, 1)], axis=0).tolist()
    return Cost(0, worked / snippets, 4.0 * width + 16), waited / snippets * choices.sampling.rate, width


def _segments(job: Job, choices: Choices, videos: int, width: int, length: int) -> Cost:
    """Costs of training on noise of the features' size."""
    tags = [route.tag for route in job.of_kind("action")]
    seconds = (np.arange(length)[:, None] + np.array([0, 1])) / choices.sampling.rate
    random = np.random.default_rng(0)
    tries = {}
    for epochs in EPOCHS:
        only = replace(job, routes=job.of_kind("action"), out=job.out / f"epochs{epochs}")
        rows = [("video", "tag", "subset")]
        for number in range(videos):
            tensors = {"features": random.standard_normal((length, width), np.float32), "seconds": seconds}
            note = {**asdict(choices.sampling), "start": 0.0, "end": float(seconds[-1, 1]), "first": 0.0}
            write_snippets(only.out / f"features/features/v{number}.safetensors", tensors, note)
            rows.append((f"v{number}", tags[number % len(tags)], "tagged"))
        write_table(only.out / "features/tags.csv", rows)
        less = replace(choices, epochs=epochs)
        tries[epochs * videos] = partial(stages.find_segments, only, less)
    return _line({units: _seconds(run, forgiven=()) for units, run in tries.items()})


def _maps(job: Job, work: Work, choices: Choices, names: Sequence[str]) -> Cost:
    """Costs of the maps of one clip and of two, measured on the first video that has an action, with any class."""
    video, tags = next(iter(job.with_tags(job.of_kind("action", "known action")).items()))
    route, tries = Route(tags[0], "known action", (0,), tuple(names[:1]), 1), {}
    for clips in (1, 2):
        few = _frames_of(video, clips * work.clip, job.out / f"clips{clips}")
        only = replace(job, tagged={few: tags[:1]}, routes=[route])
        tries[clips] = _seconds(partial(stages.make_maps, only, choices))
    return replace(_line(tries), bytes=_bytes(job.out / "maps") / sum(tries))


def _masks(job: Job, work: Work, choices: Choices) -> dict[str, Cost]:
    """Costs of the stages of masks, one after the other, on frames of the first video that has objects.

    Training and prediction, whose units are small beside what begins them, are run on two amounts of work.
    """
    video = next(iter(job.with_tags(job.of_kind("object"))))
    few = _frames_of(video, FRAMES, job.out / "frames")
    job = replace(job, tagged={few: job.tagged[video]})
    alone = replace(work, lengths={few.name: Length(0, FRAMES)}, objects=[few.name], actions=[], mapped=[])
    wanted = work.units(choices)

    def tried(stage: str, out: Path, less: Choices) -> tuple[int, float]:
        """Units and seconds of a stage."""
        only = replace(job, out=out)
        return alone.units(less)[stage], _seconds(partial(stages.RUNS[stage], only, less))

    little = replace(choices, mask_frames=TRIED, mask_epochs=EPOCHS[0], versions=1, every=FRAMES // 2)
    more = replace(little, mask_epochs=EPOCHS[1], every=FRAMES // 10)
    tried("first masks", job.out / "warm", replace(little, mask_frames=1))
    tries: dict[str, list[tuple[int, float]]] = {}
    for stage in stages.FOLDERS:
        if wanted[stage]:
            tries[stage] = [tried(stage, job.out / "little", little)]
        if wanted[stage] and stage in ("trained masks", "predicted masks"):
            again = job.out / "more"
            shutil.copytree(job.out / "little", again, ignore=shutil.ignore_patterns("run"), dirs_exist_ok=True)
            tries[stage].append(tried(stage, again, more))
    costs = {}
    for stage, several in tries.items():
        size = _bytes(job.out / "little/masks" / stages.FOLDERS[stage])
        size_of = {"fixed_bytes": size} if stage == "trained masks" else {"bytes": size / several[0][0]}
        costs[stage] = replace(_line(dict(several)), **size_of)
    return costs


def _frames_of(video: Path, count: int, folder: Path) -> Path:
    """The first frames of a video as a folder of its own."""
    for number, pixels in enumerate(islice(_pictures(video), count)):
        write_picture(folder / f"{number:05d}.jpg", pixels)
    return folder


def _pictures(video: Path) -> Iterator[Pixels]:
    if video.is_dir():
        folder = FrameFolder(video)
        return folder.read(range(len(folder)))
    return (one.pixels() for one in PyAV(video).timed())


def _seconds(run: Callable[[], object], forgiven: tuple[type[Exception], ...] = (DataError,)) -> float:
    """How long a stage takes; what a few frames are too few for is for the run itself to say."""
    start = time.perf_counter()
    with suppress(*forgiven):
        run()
    return time.perf_counter() - start


def _line(tries: Mapping[int, float]) -> Cost:
    """A line through seconds by units; where other work slowed the smaller try, units still cost half of the larger.

    Examples
    --------
    >>> _line({2: 5.0, 5: 6.5})
    Cost(fixed=3.25, unit=0.65, bytes=0.0, fixed_bytes=0.0)
    >>> _line({2: 1.0, 6: 3.0}) == _line({6: 3.0}) == Cost(0.0, 0.5)
    True
    """
    (few, first), (many, last) = min(tries.items()), max(tries.items())
    slope = (last - first) / (many - few) if many > few else last / many
    unit = max(slope, last / many / 2)
    return Cost(max(0.0, last - many * unit), unit)


def _bytes(folder: Path) -> float:
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
