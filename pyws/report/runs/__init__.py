"""What each kind of run shows: from the files in its folder to a page."""
