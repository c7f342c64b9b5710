"""Fusions: a pattern, its check and its rewrite in one file each."""
