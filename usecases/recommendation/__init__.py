"""Recommendation: a ranked list for a user, seen items and fresh clicks counted."""
