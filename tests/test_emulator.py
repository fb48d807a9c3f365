"""The emulator that the CUDA kernels are tested on: right kernels compute, wrong ones are caught."""

from __future__ import annotations

import math
from types import ModuleType

import emulation
import pytest

SEEDS = range(6)


@pytest.fixture(scope="module")
def selftest() -> ModuleType:
    return emulation.load("_selftest")


def block_sums(blocks: int, threads: int) -> list[int]:
    return [sum(i % 1000 for i in range(b * threads, (b + 1) * threads)) for b in range(blocks)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [32, 96, 256, 1024])
def test_a_block_reduction_is_right_in_every_order(selftest: ModuleType, threads: int, seed: int) -> None:
    assert selftest.sum_blocks(3, threads, seed) == block_sums(3, threads)
    assert selftest.sum_blocks_double(3, threads, seed) == block_sums(3, threads)


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_of_a_partial_mask_shuffle_and_vote_among_themselves(selftest: ModuleType, seed: int) -> None:
    sums, votes = selftest.sum_half_warps(seed)
    assert sums == [240, 256] * 16  # the even and the odd numbers below 32
    assert votes == [0b01010101, 0b10101010] * 16


def test_shuffles_in_groups_of_eight_lanes(selftest: ModuleType) -> None:
    out = selftest.shuffle(1)
    first = [lane // 8 * 8 for lane in range(32)]
    assert out[:32] == [f + 9 % 8 for f in first]
    assert out[32:64] == [lane - 3 if lane - 3 >= f else lane for lane, f in enumerate(first)]
    assert out[64:96] == [lane + 3 if lane + 3 < f + 8 else lane for lane, f in enumerate(first)]
    # Earlier groups can be read, later ones cannot.
    assert out[96:128] == [lane ^ 12 if (lane ^ 12) < f + 8 else lane for lane, f in enumerate(first)]
    assert out[128:] == [2] * 32  # any is true, all is not


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics_in_dynamic_shared_and_in_global_memory(selftest: ModuleType, seed: int) -> None:
    histogram, largest = selftest.count_values([i * i % 7 for i in range(1000)], 7, seed)
    assert histogram == [sum(i * i % 7 == bin for i in range(1000)) for bin in range(7)]
    assert largest == 4


def test_shared_memory_starts_as_nan_in_every_block_and_seeds_change_the_order(selftest: ModuleType) -> None:
    orders = set()
    for seed in SEEDS:
        values, last = selftest.look_at_shared(seed)
        assert all(map(math.isnan, values))
        orders.add(tuple(last))
        assert selftest.look_at_shared(seed)[1] == last
    assert len(orders) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_gives_wrong_sums(selftest: ModuleType, seed: int) -> None:
    assert selftest.sum_blocks_without_barrier(6, 256, seed) != block_sums(6, 256)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_syncwarp_reads_what_is_not_written(selftest: ModuleType, seed: int) -> None:
    right = [(lane + 1) % 32 for lane in range(32)]
    assert selftest.rotate_lanes(seed) == right
    assert selftest.rotate_lanes_without_sync(seed) != right


WRONG = {
    "diverged_barrier": r"waits in __syncthreads at selftest.cpp:\d+, but thread \(7,0,0\) waits in __syncwarp of mask",
    "early_exit": r"waits in __syncthreads at selftest.cpp:\d+, but thread \(40,0,0\) has exited",
    "two_barriers": r"reached at different lines: thread .* selftest.cpp:\d+, thread .* selftest.cpp:\d+",
    "exit_before_shuffle": r"waits in __shfl_sync of mask 0xffffffff .*, but thread \(3,0,0\) has exited",
    "mask_without_caller": "the mask lacks the calling lane: thread .* mask 0x0000ffff",
    "masks_differ": r"__syncwarp of mask 0xffffffff .*, but thread \(5,0,0\) has exited",
    "mixed_votes": "waits in __any_sync .*, but thread .* waits in __all_sync",
    "absent_lanes": "its mask names lanes that the block does not have",
    "much_shared_memory": "48 KB of shared memory, the kernel declares 57600 bytes",
    "dynamic_shared_memory": "48 KB of shared memory, got 49153 bytes",
    "many_threads": r"a block has 1 to 1024 threads, got \(32,33,1\)",
    "no_threads": r"a block has 1 to 1024 threads, got \(0,1,1\)",
    "tall_grid": r"a grid has at most .*, got \(1,65536,1\)",
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels_raise_with_the_name_of_the_operation(selftest: ModuleType, name: str, seed: int) -> None:
    with pytest.raises(RuntimeError, match="^selftest: .*" + WRONG[name]):
        selftest.run_wrong(name, seed)
    assert selftest.sum_blocks(2, 64, seed) == block_sums(2, 64)  # the next launch is none the worse
