"""Watching a guest's memory management while it runs."""
