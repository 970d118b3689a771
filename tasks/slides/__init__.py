"""Slides and their cohort: files, names, annotations, tissue."""
