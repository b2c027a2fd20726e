"""Measurements, each a module with a caption; `orrery bench` lists them."""
