"""Every number of every configuration, set to what means nothing: the error comes before the work and names it."""

import dataclasses
import math
import typing

import pytest

from pyws.data.synthetic.a2d import GeneratedConfig
from pyws.data.synthetic.features import SyntheticConfig
from pyws.masks.initial_masks.config import InitialMaskConfig
from pyws.masks.initial_masks.train_classifier import ClassifierConfig
from pyws.masks.prediction.action_alignment import AlignmentConfig
from pyws.masks.refinement.config import RefinementConfig
from pyws.masks.self_training.frame_selection import SelectionConfig
from pyws.masks.self_training.stopping import LoopConfig
from pyws.masks.self_training.train_discriminator import DiscriminatorConfig
from pyws.masks.self_training.train_segmentation import TrainingConfig
from pyws.segments.config import OptimConfig, ProposalConfig, TrainConfig, TrustConfig
from pyws.segments.detection.postprocess import PostprocessConfig
from pyws.segments.snippets.windows import Sampling

CONFIGS = [
    AlignmentConfig(), ClassifierConfig(), DiscriminatorConfig(), GeneratedConfig(), InitialMaskConfig(), LoopConfig(),
    OptimConfig(lr=1e-3), PostprocessConfig(), ProposalConfig(), RefinementConfig(), Sampling(25, 16, 16),
    SelectionConfig(), SyntheticConfig(), TrainConfig(), TrainingConfig(), TrustConfig(),
]  # fmt: skip
MAY_BE_NEGATIVE = {
    "class_threshold", "thresholds", "actionness_thresholds", "outer_weight", "video_weight", "log_floor", "agreement",
    "sure", "margin", "likeness", "seed", "threshold",
}  # fmt: skip
TUPLES = {"tious"}  # None by default
SAID_BY = {(GeneratedConfig, "height"): "actor_size must be", (GeneratedConfig, "width"): "actor_size must be"}


def numbers(config):
    """Names of fields that hold numbers or tuples of them, and whether whole ones."""
    for name, kind in typing.get_type_hints(type(config)).items():
        parts = {part for one in (kind, *typing.get_args(kind)) for part in (one, *typing.get_args(one))}
        if parts & {int, float}:
            yield name, float not in parts


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_numbers_that_mean_nothing_are_refused_by_name(config):
    known = dataclasses.asdict(config)
    tried = 0
    for name, whole in numbers(config):
        for value in [*(() if whole else (math.nan, math.inf)), *(() if name in MAY_BE_NEGATIVE else (-1,))]:
            wrong = (value,) * len(known[name] or (0,)) if name in TUPLES or isinstance(known[name], tuple) else value
            with pytest.raises(ValueError, match=SAID_BY.get((type(config), name), name)):
                dataclasses.replace(config, **{name: wrong})
            tried += 1
    assert tried
