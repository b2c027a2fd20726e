"""When: Prefect flows around the lifecycle."""
