"""From videos to features: what a pretrained network says of each snippet."""
