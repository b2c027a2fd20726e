"""House prices: say what a house will sell for, how sure that is, and why."""
