"""The sites, and how Prefect reaches them."""
