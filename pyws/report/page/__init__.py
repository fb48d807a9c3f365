"""One offline page: text, charts, and videos with their pictures and timelines."""
