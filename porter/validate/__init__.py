"""Does a port compute what its source does?

The reference (torch) and the candidate (MLX) run in processes of their own and meet on disk.
"""

from porter.report import Report
from porter.validate.recording import record
from porter.validate.sensitivity import prove_sensitivity
from porter.validate.validation import validate

__all__ = ["Report", "prove_sensitivity", "record", "validate"]
