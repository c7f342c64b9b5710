"""What happens to a program between the frontend and the emitter."""

from porter.passes.pipeline import PIPELINE, run_pipeline

__all__ = ["PIPELINE", "run_pipeline"]
