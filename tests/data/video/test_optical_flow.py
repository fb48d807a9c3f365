"""Dense flow, the camera's part of it, and values carried along it, against motions that are known."""

from __future__ import annotations

import sys
import threading
from typing import get_args

import numpy as np
import pytest

from pyws.data.video.optical_flow import (
    FlowMethod,
    carry,
    check_flow,
    consistency,
    dense_flow,
    flow_to_next,
    object_motion,
)

cv2 = pytest.importorskip("cv2")


def texture(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """Noise that is smooth enough to be followed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def test_dense_flow_of_a_shift() -> None:
    first = texture()
    flow = dense_flow(first, np.roll(first, (2, 3), (0, 1)))
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow[16:-16, 16:-16], (0, 1)), [3, 2], atol=0.1)


def test_dense_flow_is_the_same_for_any_number_of_threads() -> None:
    first, second = texture(240, 320), np.roll(texture(240, 320), 4, 1)
    second[60:120, 80:160] = texture(240, 320, seed=1)[60:120, 80:160]
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(dense_flow(first, second))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("method", get_args(FlowMethod))
def test_every_method_finds_a_shift_of_part_of_a_pixel(method: FlowMethod) -> None:
    """By 2.4 pixels right and 1.6 up, and the other way round."""
    if method == "tvl1":
        pytest.importorskip("cv2.optflow")
    large = texture(480, 640)
    first, second = (
        cv2.resize(np.ascontiguousarray(large[y : y + 400, x : x + 560]), None, None, 0.2, 0.2, cv2.INTER_AREA)
        for y, x in ((40, 40), (48, 28))
    )
    assert first.shape == (80, 112, 3)
    for frames, expected in (((first, second), (2.4, -1.6)), ((second, first), (-2.4, 1.6))):
        inner = dense_flow(*frames, method)[16:-16, 16:-16]
        np.testing.assert_allclose(np.median(inner, (0, 1)), expected, atol=0.15)
        assert (np.linalg.norm(inner - expected, axis=2) < 0.3).mean() > 0.9


def test_flow_to_next_has_a_flow_for_every_frame() -> None:
    still = texture()
    moved = np.roll(still, 3, 1)
    places = [float(np.median(flow[..., 0]).round(1)) for flow in flow_to_next([still, moved, moved, still], "dis")]
    assert places == [3, 0, -3, -3]
    assert [flow.any() for flow in flow_to_next([still], "dis")] == [False]
    assert list(flow_to_next([], "dis")) == []


def test_threads_that_overlap_leave_the_number_of_threads() -> None:
    """The first to enter is not the last to leave, and both compute with one thread."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = texture(240, 320), np.roll(texture(240, 320), 4, 1)
        alone = dense_flow(first, second)
        found: list[np.ndarray] = []
        workers = [
            threading.Thread(target=lambda: found.extend(dense_flow(first, second) for _ in range(4))) for _ in "abc"
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 12
        for one in found:
            np.testing.assert_array_equal(one, alone)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_tiny_frames_do_not_move() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 40, 3), dtype=np.uint8)
    assert not dense_flow(*frames).any()


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dense_flow: frames must have one size, got \(32, 32, 3\) and \(32, 40, 3\)"):
        dense_flow(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 40, 3), np.uint8))


def test_the_motion_of_the_camera_is_taken_away() -> None:
    """A homography that turns, zooms and tilts, and a square of a fifth of the frame that moves by (6, -2) beside."""
    y, x = np.mgrid[:90, :120].astype(np.float64)
    camera = np.array([[1.02, 0.01, 3.0], [-0.015, 0.99, -2.0], [1e-5, 2e-5, 1.0]])
    carried = np.stack([x, y, np.ones_like(x)], -1) @ camera.T
    flow = carried[..., :2] / carried[..., 2:] - np.stack([x, y], -1)
    flow[20:60, 30:80] += (6, -2)
    expected = np.zeros((90, 120))
    expected[20:60, 30:80] = np.hypot(6, 2)
    np.testing.assert_allclose(object_motion(flow.astype(np.float32)), expected, atol=0.05)


def test_the_flow_of_a_few_pixels_is_no_homography() -> None:
    flow = np.ones((8, 8, 2), np.float32)
    np.testing.assert_allclose(object_motion(flow), np.sqrt(2), rtol=1e-6)


def test_carry_takes_values_from_where_the_flow_leads() -> None:
    values = np.random.default_rng(0).random((2, 6, 8)).astype(np.float32)
    flow = np.zeros((6, 8, 2), np.float32)
    flow[..., 1] = 1
    np.testing.assert_allclose(carry(values, flow), values[:, [1, 2, 3, 4, 5, 5]], atol=1e-6)
    flow[..., 1] = 0.5
    np.testing.assert_allclose(carry(values, flow)[:, :5], (values[:, :5] + values[:, 1:]) / 2, atol=1e-6)


def test_consistency_falls_where_the_way_back_differs() -> None:
    forth = np.full((5, 5, 2), 1.0, np.float32)
    back = -forth.copy()
    np.testing.assert_allclose(consistency(forth, back), 1)
    back[..., 0] += 2
    np.testing.assert_allclose(consistency(forth, back), np.exp(-1), rtol=1e-6)


def test_without_contributed_modules_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(ValueError, match=r"tvl1 needs OpenCV's contributed modules, pip install 'pyws-video\[flow\]'"):
        check_flow("tvl1")
    with pytest.raises(ValueError, match="must be tvl1, dis or farneback, got 'raft'"):
        check_flow("raft")  # type: ignore[arg-type]


def test_without_opencv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"optical flow: needs OpenCV, pip install 'pyws-video\[motion\]'"):
        dense_flow(texture(), texture())
