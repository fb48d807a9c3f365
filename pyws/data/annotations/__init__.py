"""Annotation files of the literature, read safely."""
