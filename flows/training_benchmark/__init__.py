"""The training benchmark: what is measured, one measurement, and the report."""
