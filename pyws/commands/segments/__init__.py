"""pyws segments ...: a file a command."""
