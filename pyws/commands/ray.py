"""pyws ray: a stage over videos as shards on a Ray cluster."""

from __future__ import annotations

from typing import Any

from tyro.conf import Positional

from pyws.commands.common import Common, CommonOptions, check_options
from pyws.errors import loader_says

RETRIES = 3  # retries of a shard whose machine or process died; what it had finished stays


def ray(
    command: Positional[str],
    shards: int = 8,
    address: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Run a command that takes --shard as tasks of a Ray cluster, which see the same folders (extra: ray).

    Ray's core and not Ray Data: a stage makes files of each video, and no rows flow on from it. What it needs is to be
    started where there is room, and again where a machine died. The files are those of one process.

    Parameters
    ----------
    command
        the command and its options, quoted as one, such as "masks init videos -o first --tag dog"
    shards
        tasks; several for each worker, so that those that are done early take more
    address
        address of the cluster, auto for one that runs here; left out, RAY_ADDRESS, or a new one on this machine
    cpus
        processors that a task holds
    gpus
        GPUs that a task holds; may be a part of one

    Examples
    --------
    pyws ray "masks init videos -o first --tags tags.csv --classifier resnet50" --shards 32 --address auto --gpus 0.5
    """
    import inspect
    import logging
    import os
    import shlex

    from pyws.cli import load, split
    from pyws.progress import track

    words = shlex.split(command)
    name, _ = split(words)
    if name is None or "shard" not in inspect.signature(load(name)).parameters:
        raise ValueError(f"COMMAND: must be a command that takes --shard, got {command!r}")
    check_options(">= 1", shards=shards)
    try:
        import ray as cluster
    except ImportError as error:
        why = loader_says(error, "ray")
        raise ValueError(f"pyws ray: needs the package ray (pip install 'pyws-video[ray]'){why}") from error
    cluster.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        task = cluster.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(run_shard)
        waiting = [task.remote(words, index, shards, os.getcwd()) for index in range(1, shards + 1)]
        problems: dict[str, str] = {}
        for _ in track(range(shards), name, quiet=common.silent):
            (done,), waiting = cluster.wait(waiting)
            shard, status, said = cluster.get(done)
            if status:
                problems[shard] = said
    finally:
        cluster.shutdown()
    for shard, said in problems.items():
        common.say(f"shard {shard}: {said}")
    return {"ok": not problems, "command": command, "shards": shards, "problems": problems}


def run_shard(words: list[str], index: int, count: int, folder: str) -> tuple[str, int, str]:
    """One shard of a command: its name, the exit status, and what it said of errors."""
    import contextlib
    import io
    import os

    from pyws.cli import main

    os.chdir(folder)
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        status = main([*words, "--shard", f"{index}/{count}"])
    return f"{index}/{count}", status, said.getvalue().strip()
