"""pyws masks attention: boxes of actions from activation maps, against AVA's boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro

from pyws.commands.common import Common, CommonOptions


def attention(
    videos: tyro.conf.Positional[Path],
    truth: Path,
    classifier: Path,
    excluded: Path | None = None,
    actions: Path | None = None,
    min_probability: float = 0.1,
    common: CommonOptions = Common(),  # noqa: B008
) -> dict[str, Any]:
    """Frame mAP (IoU 0.5 and 0.2) and pointing game of activation maps at AVA's key frames, over ten actions.

    Parameters
    ----------
    videos
        Folder of video files or folders of frames, named as in the truth; 30 frames a second from second 900.
    truth
        ava_val_v2.2.csv or the like.
    classifier
        Classifier of clips whose labels are the actions' names; pyws masks classify --loss bce writes one.
    excluded
        AVA's csv of time stamps that do not count.
    actions
        AVA's action list (pbtxt); the ten actions by their usual names where it is left out.
    min_probability
        Actions of a lower probability are left out.
    common
        Options of every command.

    Examples
    --------
    pyws masks attention AVA/clips --truth ava_val.csv --classifier action.safetensors
    """
    from pyws.data.annotations.ava import AVA10, read_action_list, read_ava
    from pyws.data.tagged.own_videos import video_sources
    from pyws.evaluation.boxes import evaluate_boxes
    from pyws.masks.prediction.ava_boxes import attend
    from pyws.models.classifiers import open_classifier
    from pyws.progress import track

    names = {k: name for k, name in (read_action_list(actions) if actions else AVA10).items() if k in AVA10}
    network = open_classifier(classifier)
    network.model.to(common.use_device())
    ids = {name: index for index, name in names.items() if name in network.labels}
    if not ids:
        raise ValueError(f"--classifier: must know one of {', '.join(names.values())}; it knows {network.labels}")
    keys = read_ava(truth, excluded, set(ids.values()))
    if not keys:
        raise ValueError(f"--truth: {truth} has no key frame of these actions: {', '.join(ids)}")
    found = attend(network, video_sources(videos), keys, ids, min_probability)
    scores = evaluate_boxes(list(track(found, "key frames", quiet=common.silent)), keys)
    for iou, value in scores["frame_map"].items():
        common.say(f"frame mAP at IoU {iou} over {len(scores['actions'])} actions: {value:.3f}")
    common.say(f"pointing game, mean over {len(scores['actions'])} actions: {scores['pointing']:.3f}")
    return scores
