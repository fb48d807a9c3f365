"""Features of untrimmed videos with their tags."""

from pyws.data.features.dataset import FeatureSet, open_features

__all__ = ["FeatureSet", "open_features"]
