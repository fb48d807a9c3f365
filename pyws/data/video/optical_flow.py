"""Dense optical flow between two frames, its part that camera motion does not explain, and values carried along it.

Needs OpenCV, ``pip install 'pyws-video[motion]'``; TV-L1 needs its contributed modules, ``pyws-video[flow]``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyws.data.video.frames import Pixels
from pyws.errors import loader_says

Flow = NDArray[np.float32]
"""(H, W, 2): how far right and down each pixel of one frame has gone in another, in pixels."""

FlowMethod = Literal["tvl1", "dis", "farneback"]
"""TV-L1 (Zach et al., DAGM 2007), dense inverse search (Kroeger et al., ECCV 2016), Farneback (SCIA 2003)."""

FlowName = Literal["dis", "tvl1", "farneback", "raft_small", "raft_large"]
"""A method, or a network of :mod:`pyws.models.image_networks.raft`."""

FlowEstimator = Callable[[Pixels, Pixels], Flow]
"""From two frames to their flow, such as a network."""

GRID = 8  # pixels between two of those that the camera's motion is estimated from
INLIER = 1.0  # pixels
CONSISTENT = 2.0  # pixels that a way forth and back may miss its start by, for a weight of 1/e
SMALLEST_SIDE = 16  # smallest side of a frame in which DIS finds patches
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)  # scale, levels, window, iterations, neighbourhood, its sigma: OpenCV's example


def dense_flow(first: Pixels, second: Pixels, method: FlowMethod | FlowEstimator = "dis") -> Flow:
    """Where the pixels of a frame are in another one.

    Parameters
    ----------
    first, second : (H, W, 3) uint8 RGB, of one size
    method : "tvl1", "dis" (medium preset) or "farneback", see :data:`FlowMethod`; or a network,
        :func:`pyws.models.image_networks.raft.load_raft`

    Returns
    -------
    (H, W, 2) float32; zeros by OpenCV's methods for frames with a side of less than 16 pixels

    Raises
    ------
    ValueError : frames of two sizes, or what :func:`check_flow` refuses

    Examples
    --------
    >>> frames = np.zeros((2, 48, 64, 3), np.uint8)
    >>> frames[0, 16:32, 16:32], frames[1, 16:32, 20:36] = 255, 255
    >>> dense_flow(*frames)[24, 24].round().astype(int).tolist()
    [4, 0]
    """
    if first.shape != second.shape:
        raise ValueError(f"dense_flow: frames must have one size, got {first.shape} and {second.shape}")
    if callable(method):
        return method(first, second)
    if min(first.shape[:2]) < SMALLEST_SIDE:
        return np.zeros((*first.shape[:2], 2), np.float32)
    with _opencv() as cv2:
        grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        return np.asarray(_algorithm(cv2, method)(*grey, None), np.float32)


def flow_to_next(frames: Iterable[Pixels], method: FlowMethod | FlowEstimator) -> Iterator[Flow]:
    """The flow from each frame to the next; the last frame has the flow of the one before, a single frame has none.

    Parameters
    ----------
    frames : (H, W, 3) uint8 RGB, of one size; a frame that is repeated has not moved
    method : method of :func:`dense_flow`

    Returns
    -------
    (H, W, 2) float32 for every frame, so that a stream of flow has as many snippets as one of RGB

    Examples
    --------
    >>> frames = np.zeros((3, 48, 64, 3), np.uint8)
    >>> for index in range(3):
    ...     frames[index, 16:32, 16 + 4 * index : 32 + 4 * index] = 255
    >>> [flow[24, 28].round().astype(int).tolist() for flow in flow_to_next(frames, "dis")]
    [[4, 0], [4, 0], [4, 0]]
    """
    before, flow = None, None
    for frame in frames:
        if before is not None:
            still = np.array_equal(before, frame)
            flow = np.zeros((*frame.shape[:2], 2), np.float32) if still else dense_flow(before, frame, method)
            yield flow
        before = frame
    if before is not None:
        yield flow if flow is not None else np.zeros((*before.shape[:2], 2), np.float32)


def check_flow(method: FlowMethod) -> None:
    """Raise ValueError, which names the extra to install, unless a method of :func:`dense_flow` is here.

    Examples
    --------
    >>> check_flow("dis")
    """
    with _opencv() as cv2:
        _algorithm(cv2, method)


def object_motion(flow: Flow) -> NDArray[np.float32]:
    """How far each pixel has moved beside the camera's motion, a homography that most pixels agree on (RANSAC).

    Parameters
    ----------
    flow : (H, W, 2)

    Returns
    -------
    (H, W) float32, pixels; the whole flow where it has too few pixels for a homography

    Examples
    --------
    >>> flow = np.full((48, 64, 2), 3.0, np.float32)  # a camera that turns,
    >>> flow[16:32, 16:32, 0] = -2.0  # and something that moves
    >>> np.abs(object_motion(flow)[[4, 24], [4, 24]]).round(3).tolist()
    [0.0, 5.0]
    """
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([x, y], -1)
    chosen = np.s_[GRID // 2 :: GRID, GRID // 2 :: GRID]
    source = places[chosen].reshape(-1, 2)
    camera = None
    with _opencv() as cv2:
        if len(source) >= 4:
            camera = cv2.findHomography(source, source + flow[chosen].reshape(-1, 2), cv2.RANSAC, INLIER)[0]
        if camera is None:
            return np.linalg.norm(flow, axis=2).astype(np.float32)
        carried = cv2.perspectiveTransform(places.reshape(1, -1, 2), camera).reshape(height, width, 2)
    return np.linalg.norm(places + flow - carried, axis=2).astype(np.float32)


def carry(values: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """Values of the second frame of a flow at the places of the first: (C, H, W) to (C, H, W), bilinear.

    Examples
    --------
    >>> values = np.array([[[0.0, 1.0, 2.0, 3.0]]], np.float32)
    >>> flow = np.zeros((1, 4, 2), np.float32)
    >>> flow[..., 0] = 1
    >>> carry(values, flow).tolist()
    [[[1.0, 2.0, 3.0, 3.0]]]
    """
    y, x = (np.arange(side, dtype=np.float32) for side in flow.shape[:2])
    with _opencv() as cv2:
        places = (x + flow[..., 0], y[:, None] + flow[..., 1], cv2.INTER_LINEAR)
        return np.stack(
            [cv2.remap(np.ascontiguousarray(one), *places, borderMode=cv2.BORDER_REPLICATE) for one in values]
        )


def consistency(forth: Flow, back: Flow) -> NDArray[np.float32]:
    """How well the way to another frame and the way back agree at each pixel: (H, W) in [0, 1], 1 where they do."""
    right, down = carry(back.transpose(2, 0, 1), forth)
    missed = np.hypot(forth[..., 0] + right, forth[..., 1] + down)
    return np.exp(-missed / CONSISTENT).astype(np.float32)


def _algorithm(cv2: Any, method: FlowMethod) -> Any:
    """From two grey frames and None to their flow."""
    if method == "dis":
        return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc
    if method == "farneback":
        return lambda first, second, _: cv2.calcOpticalFlowFarneback(first, second, None, *FARNEBACK)
    if method != "tvl1":
        raise ValueError(f"optical flow: the method must be tvl1, dis or farneback, got {method!r}")
    if not hasattr(cv2, "optflow"):
        raise ValueError(
            "optical flow: tvl1 needs OpenCV's contributed modules, pip install 'pyws-video[flow]', which take the "
            "place of opencv-python-headless (uninstall that first); or use dis"
        )
    return cv2.optflow.DualTVL1OpticalFlow_create().calc


class _OneThread:
    """OpenCV's number of threads, which all threads of the process share: one while anybody is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = self._before = 0

    def enter(self, cv2: Any) -> None:
        with self._lock:
            if not self._inside:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def leave(self, cv2: Any) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.setNumThreads(self._before)


_one_thread = _OneThread()


def why_no_opencv() -> str:
    """What is to be done before there is optical flow by OpenCV; "" where there is."""
    try:
        with _opencv():
            return ""
    except ValueError as error:
        return str(error)


@contextmanager
def _opencv() -> Iterator[Any]:
    """OpenCV with one thread: DIS parts a frame among its threads, and finds another flow for each number of them."""
    try:
        import cv2
    except ImportError as error:
        why = loader_says(error, "cv2")
        raise ValueError(f"optical flow: needs OpenCV, pip install 'pyws-video[motion]'{why}") from error
    _one_thread.enter(cv2)
    try:
        yield cv2
    finally:
        _one_thread.leave(cv2)
