"""The commands of ``camnet``, one file a topic."""
