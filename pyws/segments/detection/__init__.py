"""Activation maps to proposals, proposals to detections."""
