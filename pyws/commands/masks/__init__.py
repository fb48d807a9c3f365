"""The commands pyws masks ..., each in a file of its own."""
