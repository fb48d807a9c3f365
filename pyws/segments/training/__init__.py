"""Training of a backbone from tags and pseudo labels."""
