"""Which shard a process is, and which videos are its own."""

import itertools

import pytest

from pyws.sharding import WHOLE, Shard, this_shard

SRUN = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "3"}


@pytest.mark.parametrize(
    ("given", "environment", "shard"),
    [
        (None, {}, (1, 1)),
        ("2/5", {"RANK": "0", "WORLD_SIZE": "2"}, (2, 5)),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, (2, 2)),
        (None, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (2, 2)),
        (None, SRUN, (4, 4)),
        (None, {**SRUN, "SLURM_STEP_NUM_TASKS": "8"}, (4, 8)),
        (None, {"SLURM_JOB_ID": "9", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (1, 1)),  # a batch script
        (None, {**SRUN, "RANK": "0", "WORLD_SIZE": "2"}, (1, 2)),  # torchrun under srun counts itself
        (None, {**ARRAY, "SLURM_ARRAY_TASK_ID": "5"}, (2, 3)),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_STEP": "2"}, (3, 3)),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_STEP": "2", "RANK": "1", "WORLD_SIZE": "2"}, (6, 6)),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_COUNT": "1"}, (1, 1)),  # a task that is run again takes what is left
    ],
)
def test_which_shard_this_is(given, environment, shard):
    assert this_shard(given, environment) == Shard(*shard)


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        ("0/2", {}, r"--shard: must be one of 1..2, got 0 of 2"),
        ("3/2", {}, r"--shard: must be one of 1..2, got 3 of 2"),
        ("1", {}, "--shard: must be I/N"),
        ("-1/2", {}, "--shard: must be I/N"),
        ("", {}, "--shard: must be I/N"),
        (None, {"RANK": "2", "WORLD_SIZE": "2"}, r"RANK of WORLD_SIZE: must be one of 0..1, got 2 of 2"),
        (None, {"RANK": "x", "WORLD_SIZE": "2"}, "RANK: must be a whole number"),
        (None, ARRAY, "must be evenly spaced, got 8 of 3 from 4 in steps of 1"),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_STEP": "3"}, "must be evenly spaced"),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_ID": "7"}, "must be evenly spaced, got 7 of 3 from 4 in steps of 1"),
    ],
)
def test_no_such_shard(given, environment, message):
    with pytest.raises(ValueError, match=message):
        this_shard(given, environment)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_video_belongs_to_one_shard(count):
    sizes = [(index * 37) % 101 + 1 for index in range(40)]
    shares = [Shard(index + 1, count).share(range(40), sizes.__getitem__) for index in range(count)]
    assert sorted(itertools.chain(*shares)) == list(range(40))
    if count > 1:
        assert all(sorted(share, key=lambda video: -sizes[video]) == share for share in shares)
        loads = [sum(sizes[video] for video in share) for share in shares]
        assert max(loads) - min(loads) <= max(sizes)  # as even as giving the next to the least loaded makes it
    else:
        assert shares == [list(range(40))]


def test_videos_of_no_size_are_shared_too():
    assert [len(Shard(index, 2).share("abcd", lambda _: 0)) for index in (1, 2)] == [2, 2]
    assert WHOLE.share("ab", lambda _: 0) == ["a", "b"]


@pytest.mark.parametrize(("index", "count"), [(0, 1), (2, 1), (-1, 3), (4, 3), (1, 0)])
def test_a_shard_is_one_of_them(index, count):
    with pytest.raises(ValueError, match=f"shard: must be I/N with 1 <= I <= N, got {index}/{count}"):
        Shard(index, count)
