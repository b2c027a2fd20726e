"""Chest films: does one show an opacity, how sure is that, and which should be read first."""
