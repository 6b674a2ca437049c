"""Parts for other programs that have a place for them."""
