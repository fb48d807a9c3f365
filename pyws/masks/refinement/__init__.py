"""Pseudo-annotations refined by a model of each video: what its objects look like, where they are, how they move."""
