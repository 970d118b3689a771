"""The preprocessing benchmark: what is measured, one measurement, the model, and the report."""
