"""Pictures and the HTML report, made from files only."""
