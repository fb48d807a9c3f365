"""The commands of the pyws command line, one file a group."""
