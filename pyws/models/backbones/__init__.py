"""Backbones of temporal localisation: snippet features to class activations."""
