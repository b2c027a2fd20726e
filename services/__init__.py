"""Where it answers."""
