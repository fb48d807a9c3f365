"""pyws data ...: a file a command."""
