"""The second stage of WS^2: versions of pseudo-annotations and models (sections 3.2 and 3.3, Alg. 1)."""
