"""Frames of videos: decoders, folders of pictures, clips."""
