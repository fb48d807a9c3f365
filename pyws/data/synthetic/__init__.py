"""Synthetic data with known truth, and streams joined of real recordings."""
