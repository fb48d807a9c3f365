"""The commands pyws data ..., each in a file of its own."""
