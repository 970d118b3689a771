"""The transfer benchmark: what is measured, its tables and pictures, the flow."""
