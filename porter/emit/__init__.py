"""From the tree of classes to Python source."""

from porter.emit.file import Emission, emit

__all__ = ["Emission", "emit"]
