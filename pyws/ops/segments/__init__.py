"""Operations on segments of time."""
