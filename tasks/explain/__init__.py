"""Layer 3: what a model looked at."""
