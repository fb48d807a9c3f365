"""The commands pyws config ..., each in a file of its own."""
