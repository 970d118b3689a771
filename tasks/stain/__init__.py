"""Colours of stained tissue: what a slide's are, and how they become those of another."""
