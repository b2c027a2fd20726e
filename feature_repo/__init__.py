"""What every use case declares to the feature store."""
