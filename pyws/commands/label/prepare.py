"""What a run of pyws label works on: videos that can be used, what becomes of each tag, and the networks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

from pyws.commands.label.plan import Choices, Length, Work
from pyws.commands.label.stages import Job, Networks, mask_config_for
from pyws.commands.label.tags import route_of
from pyws.data.tagged.tags_table import misfit, tags_of
from pyws.data.video.decoders import Header
from pyws.data.video.headers import headers_of, rates_missing, refuse
from pyws.data.video.sources import find_videos, name_of
from pyws.errors import DataError
from pyws.models.classifier import Classifier
from pyws.models.classifiers import load_classifier
from pyws.models.pretrained import clip_networks
from pyws.segments.snippets.network import SnippetNetwork
from pyws.segments.snippets.windows import default_sampling


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first stage.

    Parameters
    ----------
    job : what the stages share
    work : how much there is to do
    network : classifier of clips; None where no tag is an action
    choices : without a budget
    problems : a sentence for each video or row of the table that is left out
    """

    job: Job
    work: Work
    network: SnippetNetwork | None
    choices: Choices
    problems: tuple[str, ...]


def prepare(videos: Sequence[Path], tags: Path, job: Job, wanted: Choices) -> Prepared:
    """Find the videos and their tags, and load the networks.

    Parameters
    ----------
    videos, tags : as the user gave them
    job : job of the user's options; videos, routes and mask_config are filled in
    wanted : choices; the sampling is filled in

    Raises
    ------
    DataError : rows of the table or videos cannot be used (unless ``on_error`` is "skip"); weights
        that are not here
    """
    sources = tags_of(tags, find_videos(videos, job.on_error), "skip")
    headers, unusable = headers_of(sources.tags, job.folder_fps)
    problems = [*sources.problems, *map(str, unusable.values())]
    if problems and job.on_error == "error":
        raise misfit(tags, problems)
    tagged = {path: sources.tags[path] for path in headers}
    if not tagged:
        raise DataError(tags, f"no video can be used: {'; '.join(problems[:5])}")
    used = [tag for tag in sources.names if any(tag in several for several in tagged.values())]
    counts = {tag: sum(tag in several for several in tagged.values()) for tag in used}
    nets = job.networks
    images = load_classifier(nets.classifier, nets.classifier_weights, nets.classifier_class_names, words=used)
    routes = [route_of(tag, counts[tag], images.labels) for tag in used]
    network = None
    if any(route.kind == "action" for route in routes):
        clips = _clips(nets, [route.tag for route in routes if route.kind == "action"])
        routes = [route_of(tag, counts[tag], images.labels, clips.labels) for tag in used]
        network = SnippetNetwork(clips, job.common.use_device())
        wanted = replace(wanted, sampling=default_sampling(clips))
    mask_config = mask_config_for(
        images, median_low(one.height * one.width for one in headers.values()), wanted.versions > 0
    )
    job = replace(job, tagged=tagged, routes=routes, mask_config=mask_config)
    if job.on_error == "error":
        refuse(rates_missing(job.with_tags(job.of_kind("action", "known action")), job.folder_fps))
    return Prepared(job, work_of(job, headers, network), network, wanted, tuple(problems))


def work_of(job: Job, headers: Mapping[Path, Header], network: SnippetNetwork | None) -> Work:
    """How much there is to do."""

    def names(*kinds: str) -> list[str]:
        return [name_of(video) for video in job.with_tags(job.of_kind(*kinds))]

    actions = job.with_tags(job.of_kind("action", "known action"))
    mapped = [name_of(video) for video, tags in actions.items() for _ in tags]
    clip = network.classifier.frames if network is not None else 0
    if job.networks.network.startswith(clip_networks.PREFIX):
        clip = clip_networks.FRAMES
    return Work(
        {name_of(path): Length(one.seconds, one.frames) for path, one in headers.items()},
        names("action", "known action"),
        names("object"),
        bool(job.of_kind("action")),
        mapped if clip else [],
        clip,
        job.mask_config.steps,
    )


def _clips(networks: Networks, words: Sequence[str]) -> Classifier:
    """The network of clips; where its weights are not here, the error says what else would do."""
    try:
        return load_classifier(networks.network, networks.weights, networks.network_class_names, words=words)
    except DataError as error:
        if networks.weights != "default":
            raise
        tags = ", ".join(words)
        other = f"It is needed for what is no object ({tags}): leave that out, or take --network {networks.classifier}"
        raise DataError(error.path, f"{error.rule}. {other}") from error
