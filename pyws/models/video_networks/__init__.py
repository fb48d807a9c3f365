"""Networks of clips."""
