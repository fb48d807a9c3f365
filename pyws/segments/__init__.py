"""Paper 2 (GauFuse): temporal segments from video tags."""
