"""pyws config ...: settings of commands."""
