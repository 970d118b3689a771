"""Sentences made of tasks: one flow a file."""
