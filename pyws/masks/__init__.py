"""Paper 1 (WS^2): pixel masks from video tags."""
