"""The emulator that the CUDA kernels are tested on: right kernels compute, wrong ones are caught."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulation
import pytest

SEEDS = range(6)
RANGE = list(range(32))


@pytest.fixture(scope="module")
def run() -> Callable[..., list[int]]:
    """run(kernel, numbers, size of the output, grid=, block=, shared_bytes=, seed=)"""
    return functools.partial(emulation.run_kernel, emulation.build("selftest"))


def block_sums(blocks: int, threads: int) -> tuple[list[int], list[int]]:
    numbers = [i % 1000 for i in range(blocks * threads)]
    return numbers, [sum(numbers[b * threads : (b + 1) * threads]) for b in range(blocks)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [32, 96, 256, 1024])
def test_a_block_reduction_is_right_in_every_order(run: Callable[..., list[int]], threads: int, seed: int) -> None:
    numbers, sums = block_sums(3, threads)
    assert run("block_sum", numbers, 3, grid=(3, 1), block=(threads, 1), seed=seed) == sums


@pytest.mark.parametrize("seed", SEEDS)
def test_lanes_of_a_partial_mask_shuffle_and_vote_among_themselves(run: Callable[..., list[int]], seed: int) -> None:
    out = run("half_warps", RANGE, 64, seed=seed)
    assert out[:32] == [240, 256] * 16  # the even and the odd numbers below 32
    assert out[32:] == [0b01010101, 0b10101010] * 16


def test_shuffles_in_groups_of_eight_lanes(run: Callable[..., list[int]]) -> None:
    out = run("shuffles", RANGE, 192)
    first = [lane // 8 * 8 for lane in RANGE]
    assert out[:32] == [f + 9 % 8 for f in first]
    assert out[32:64] == [lane - 3 if lane - 3 >= f else lane for lane, f in enumerate(first)]
    assert out[64:96] == [lane + 3 if lane + 3 < f + 8 else lane for lane, f in enumerate(first)]
    # Earlier groups can be read, later ones cannot.
    assert out[96:128] == [lane ^ 12 if (lane ^ 12) < f + 8 else lane for lane, f in enumerate(first)]
    assert out[128:160] == [2] * 32  # any is true, all is not
    assert out[160:] == [lane ^ 1 for lane in RANGE]  # eight bytes


def test_bit_intrinsics(run: Callable[..., list[int]]) -> None:
    out = run("bits", [0, 1, 6, -1], 32, block=(4, 1))
    # popc, popcll, ffs, ffsll, clz, clzll; the wide ones of the number times 2^20; min and max with 2
    assert out[0:8] == [0, 0, 0, 0, 32, 64, 0, 2]
    assert out[8:16] == [1, 1, 1, 21, 31, 43, 1, 2]
    assert out[16:24] == [2, 2, 2, 22, 29, 41, 2, 6]
    assert out[24:32] == [32, 44, 1, 21, 0, 0, -1, 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics_in_dynamic_shared_and_in_global_memory(run: Callable[..., list[int]], seed: int) -> None:
    numbers = [i * i % 7 for i in range(1024)]
    out = run("histogram", numbers, 8, grid=(16, 1), block=(64, 1), shared_bytes=28, seed=seed)
    assert out == [*(numbers.count(value) for value in range(7)), 4]


def test_seeds_change_the_order(run: Callable[..., list[int]]) -> None:
    orders = [run("last_threads", [], 3, grid=(3, 1), block=(64, 1), seed=seed) for seed in SEEDS]
    assert orders == [run("last_threads", [], 3, grid=(3, 1), block=(64, 1), seed=seed) for seed in SEEDS]
    assert len({tuple(order) for order in orders}) == len(SEEDS)


def test_threads_are_interrupted_between_two_atomics(run: Callable[..., list[int]]) -> None:
    counted = [run("lost_counts", [], 1, block=(256, 1), seed=seed)[0] for seed in SEEDS]
    assert all(0 < count < 256 for count in counted)
    assert len(set(counted)) > 1


def lines_of(message: str) -> list[str]:
    source = (Path(emulation.__file__).parent / "emulator" / "selftest.cpp").read_text().splitlines()
    return [source[int(number) - 1] for number in re.findall(r"selftest\.cpp:(\d+)", message)]


# The kernel, its block, and what stands in the lines of the two accesses.
RACES: list[tuple[str, int, str, str]] = [
    ("block_sum_without_barrier", 256, "partial[", "partial["),
    ("rotate_without_sync", 32, "slots[", "slots["),
    ("rotate_half_synced", 32, "slots[", "slots["),
    ("rotate_by_shuffle", 32, "slots[", "slots["),
    ("write_after_read", 64, "slot[0]", "slot[0]"),
    ("same_value", 32, "*out = 7", "*out = 7"),
    ("plain_sum", 64, "*out += ", "*out += "),
    ("plain_beside_atomic", 64, "out[1]", "out[1]"),
    ("byte_in_word", 32, "= 1", "= 0"),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "threads", "one", "other"), RACES, ids=[race[0] for race in RACES])
def test_races_are_found_in_every_order(
    run: Callable[..., list[int]], name: str, threads: int, one: str, other: str, seed: int
) -> None:
    with pytest.raises(RuntimeError, match="race: .* nothing orders|shared memory that nothing wrote") as caught:
        run(name, [1] * threads, 256, block=(threads, 1), seed=seed)
    lines = lines_of(str(caught.value))
    assert any(part in line for part in (one, other) for line in lines)
    assert all(one in line or other in line for line in lines)


def test_blocks_race_for_global_memory_alone(run: Callable[..., list[int]]) -> None:
    with pytest.raises(RuntimeError, match="race: .* what another block writes"):
        run("colliding_blocks", [], 1, grid=(8, 1))
    assert run("bytes", [], 8, block=(32, 1)) == [0x01010101] * 8


def test_shared_memory_must_be_written_before_it_is_read(run: Callable[..., list[int]]) -> None:
    with pytest.raises(RuntimeError, match=r"reads at selftest.cpp:\d+ shared memory that nothing wrote"):
        run("uninitialised", [], 64, block=(64, 1))


@pytest.mark.skipif(bool(emulation.SANITIZE), reason="AddressSanitizer ends the process")
def test_shared_arrays_are_not_written_beyond_their_end(run: Callable[..., list[int]]) -> None:
    run("write_beyond", [], 1, block=(7, 1))
    with pytest.raises(RuntimeError, match="a shared array of 32 bytes was written beyond its end"):
        run("write_beyond", [], 1, block=(8, 1))


def test_vectors_are_loaded_at_multiples_of_their_size(run: Callable[..., list[int]]) -> None:
    with pytest.raises(RuntimeError, match="a vector of 16 bytes at an address that they do not divide"):
        run("misaligned", RANGE, 1, block=(2, 1))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "diverged_barrier": (
        {"block": (64, 1)},
        r"waits in __syncthreads at selftest.cpp:\d+, but thread \(7,0,0\) waits in __syncwarp of mask 0xffffffff",
    ),
    "early_exit": ({"block": (64, 1)}, r"__syncthreads at selftest.cpp:\d+, but thread \(40,0,0\) has exited"),
    "two_barriers": (
        {"block": (64, 1)},
        r"reached at different lines: thread .* __syncthreads at selftest.cpp:\d+, thread .* selftest.cpp:\d+",
    ),
    "exit_before_shuffle": ({}, r"waits in __shfl_sync of mask 0xffffffff .*, but thread \(3,0,0\) has exited"),
    "mask_without_caller": ({}, "the mask lacks the calling lane: thread .* mask 0x0000ffff"),
    "masks_differ": ({}, r"__syncwarp of mask 0xffffffff .*, but thread \(5,0,0\) has exited"),
    "mixed_votes": ({}, "waits in __any_sync .*, but thread .* waits in __all_sync"),
    "sync_full_warp": ({"block": (40, 1)}, "its mask names lanes that the block does not have"),
    "much_shared_memory": ({"shared_bytes": 9600}, "48 KB of shared memory, the kernel declares 57600 bytes"),
}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"shared_bytes": 49153}, "48 KB of shared memory, got 49153 bytes"),
    ({"block": (32, 33)}, r"a block has 1 to 1024 threads, got \(32,33,1\)"),
    ({"block": (0, 1)}, r"a block has 1 to 1024 threads, got \(0,1,1\)"),
    ({"grid": (1, 65536)}, r"a grid has at most .*, got \(1,65536,1\)"),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels_raise_with_the_operation(run: Callable[..., list[int]], name: str, seed: int) -> None:
    sizes, message = WRONG[name]
    with pytest.raises(RuntimeError, match="^selftest: emulated kernel, block .*" + message):
        run(name, RANGE, 64, seed=seed, **sizes)
    assert run("rotate", RANGE, 32, seed=seed) == [*range(1, 32), 0]  # the next launch is none the worse


@pytest.mark.parametrize(("sizes", "message"), REFUSED)
def test_launches_that_a_gpu_refuses(run: Callable[..., list[int]], sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match="^selftest: CUDA launch failed: .*" + message):
        run("nothing", [], 1, **sizes)


def sanitized(sanitize: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a kernel compiled with a sanitizer, in an interpreter of its own."""
    library = {"thread": "libtsan.so", "address": "libasan.so"}[sanitize]
    compiler = os.environ.get("CXX", "g++")
    runtime = subprocess.run([compiler, f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip(f"{compiler} has no {library}")
    program = "import emulation, json, sys; a, o = json.loads(sys.argv[1]); print(emulation.run_kernel(*a, **o))"
    call = json.dumps([[str(emulation.build("selftest", sanitize)), *arguments], options])
    fixed_addresses = ["setarch", "-R"] if shutil.which("setarch") else []  # old runtimes need it on new kernels
    return subprocess.run(
        [*fixed_addresses, sys.executable, "-c", program, call],
        cwd=Path(emulation.__file__).parent,
        env={**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("name", ["block_sum_without_barrier", "rotate_without_sync", "rotate_half_synced"])
def test_the_race_detector_names_both_lines_of_a_planted_race(name: str, seed: int) -> None:
    block = (64, 1) if name.startswith("block") else (32, 1)
    report = sanitized("thread", name, [1] * 64, 32, block=block, seed=seed).stderr
    assert "data race" in report
    source = (Path(emulation.__file__).parent / "emulator" / "selftest.cpp").read_text().splitlines()
    sides = [line for line in report.splitlines() if "#0" in line and "selftest.cpp:" in line]
    lines = {source[int(side.split("selftest.cpp:")[1].split()[0]) - 1].strip() for side in sides}
    assert any("] = " in line and "out[" not in line for line in lines), report  # the write to shared memory
    assert any("out[" in line or "total" in line for line in lines), report  # the read


def test_the_race_detector_sees_blocks_that_collide() -> None:
    assert "data race" in sanitized("thread", "colliding_blocks", [], 1, grid=(8, 1)).stderr


@pytest.mark.parametrize("name", ["block_sum", "rotate", "half_warps", "histogram"])
def test_the_race_detector_passes_right_kernels(name: str) -> None:
    numbers = [i % 7 for i in range(256)]
    done = sanitized("thread", name, numbers, 64, grid=(4, 1) if name in ("block_sum", "histogram") else (1, 1),
                     block=(64, 1) if name in ("block_sum", "histogram") else (32, 1), shared_bytes=28)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_address_sanitizer_sees_the_end_of_a_shared_array() -> None:
    assert "use-after-poison" in sanitized("address", "overflow", RANGE, 1, block=(1, 1)).stderr
    done = sanitized("address", "block_sum", [1] * 256, 1, block=(256, 1))
    assert done.stdout == "[256]\n", done.stderr
