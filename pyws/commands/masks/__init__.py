"""pyws masks ...: a file a command."""
