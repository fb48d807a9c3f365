"""LinPro: the program, the solvers behind it, and what answers where they do not."""
