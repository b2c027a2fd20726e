"""One file per outside system, named by its role."""
