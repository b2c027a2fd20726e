"""Card fraud: score a transaction while it waits."""
