"""Scores against ground truth."""

from pyws.evaluation.detection import DetectionScores, detection_map

__all__ = ["DetectionScores", "detection_map"]
