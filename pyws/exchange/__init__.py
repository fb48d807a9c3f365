"""Into and out of the tools where people review: results to their formats, and corrections back."""
