"""One file for each suite; the file's name is the suite's."""
