"""Mechanics that the recipe scripts share."""
