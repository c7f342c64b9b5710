"""Many conversions and validations from one manifest: parallel, cached, resumable."""

from porter.batch.executor import JobResult, run_batch
from porter.batch.junit import junit_xml
from porter.batch.manifest import Job, Manifest, read_manifest

__all__ = ["Job", "JobResult", "Manifest", "junit_xml", "read_manifest", "run_batch"]
