"""State from token to token, lifted out of a forward that has none."""
