"""Masks, actions and boxes of videos by a trained model."""
