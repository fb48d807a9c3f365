"""Readers, writers and generators of data."""
