"""Where transposes go: along the program, into each other, and into the weights."""
