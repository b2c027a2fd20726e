"""Spots on small pictures: the smallest use case that asks for the model server."""
