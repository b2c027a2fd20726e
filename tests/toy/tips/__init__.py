"""Restaurant tips: the smallest use case that has everything; a test copies it into `usecases/`."""
