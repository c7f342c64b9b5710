"""Weights: lazy readers, recipes over named source tensors, mapping.toml, and the streaming writer."""
