"""Results in the formats of the tools where people review them, and what people corrected there."""
