"""The commands pyws segments ..., each in a file of its own."""
