"""The exporter of what Prefect does not say in its own metrics."""
