"""Patches: where they are sampled and how they are stored."""
