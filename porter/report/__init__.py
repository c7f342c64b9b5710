"""What a validation found, as an object, JSON, a table, Markdown, HTML and JUnit."""

from porter.report.schema import ModuleResult, OutputResult, Report

__all__ = ["ModuleResult", "OutputResult", "Report"]
