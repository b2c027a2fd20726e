"""Who asks: the `orrery` command."""
