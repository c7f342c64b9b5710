"""Pure MLX functions for what no MLX call does: an emitted file holds the source of those that it uses.

A lowering names one as the op `fn.NAME`. Each function stands by itself, but for functions of its own file.
"""

from porter.functions.text import FunctionText, add_file, function, function_names, texts

__all__ = ["FunctionText", "add_file", "function", "function_names", "texts"]
