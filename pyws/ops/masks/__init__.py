"""Operations on pixels: maps, masks and superpixels."""
