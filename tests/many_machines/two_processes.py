"""Two processes over gloo as torchrun starts them, forked from one that has everything imported.

    python two_processes.py JOBS.json

JOBS.json has a list of jobs, which both do one after the other: the words of a pyws command, and perhaps ``kill``, the
rank that dies after so many ``steps`` of an optimiser. Jobs with ``alone`` have no address to meet at, with ``race``
neither knows of the other, with ``elastic`` torchrun's agent starts both, and both again where one dies. With ``told``
the second never comes, and the first, which waits for it, is told to end after so many seconds. Prints, as JSON, of
each job and rank the exit status.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo  # as every optimiser does, in two seconds
from torch.optim.optimizer import register_optimizer_step_pre_hook

import pyws.masks.self_training.loop
import pyws.masks.self_training.train_segmentation as training
import pyws.report.run
import pyws.segments.detection.inference
import pyws.segments.training.train  # noqa: F401
from pyws import cli


def small(backbone="", classes=3, weights=None, **options):
    """A network that learns colours in a moment, in the place of DeepLab on ResNet."""
    nn = torch.nn
    layers = (nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
    options.pop("output_stride", None)
    return training.DeepLabV2(nn.Sequential(*layers), 16, classes, **options)


def dies_after(steps):
    """Every optimiser's step counts; after the last one the process is gone."""
    left = [steps]

    def count(optimizer, arguments, options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_pre_hook(count)


def work(job, rank, port):
    if not job.get("race"):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    if port:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if job.get("kill") == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        dies_after(job["steps"])
    training.build_deeplab = small
    with contextlib.ExitStack() as files:
        for name, redirect in (("", contextlib.redirect_stdout), (".err", contextlib.redirect_stderr)):
            if "out" in job:
                files.enter_context(redirect(files.enter_context(open(f"{job['out']}.{rank}{name}", "w"))))
        return cli.main(job["words"])


def started_again(job):
    """One rank of a job that torchrun's agent started, with the environment that it gives."""
    if work(job, int(os.environ["RANK"]), None):
        raise SystemExit(1)


def by_agent(job):
    """Exit statuses of a job under torchrun's agent, which allows one restart of both; [1, 1] where it gives up."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", rdzv_configs={"is_host": True}, max_restarts=1,
            monitor_interval=0.05, start_method="fork", logs_specs=DefaultLogsSpecs(log_dir=logs), run_id="test",
        )  # fmt: skip
        try:
            elastic_launch(config, started_again)(job)
        except ChildFailedError:
            return [1, 1]
    return [0, 0]


def tell_to_end(child, seconds):
    time.sleep(seconds)
    os.kill(child, signal.SIGTERM)
    return 0


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main():
    statuses = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if job.get("elastic"):
            statuses.append(by_agent(job))
            continue
        port = None if job.get("alone") or job.get("race") else free_port()
        children = []
        for rank in range(2):
            child = os.fork()
            if child == 0:
                status = 70  # an error that is no status of the command
                try:
                    told = rank == 1 and "told" in job
                    status = tell_to_end(children[0], job["told"]) if told else work(job, rank, port)
                finally:
                    os._exit(status)
            children.append(child)
        statuses.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    print(json.dumps(statuses))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
