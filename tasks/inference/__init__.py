"""Layer 3: scores, heatmaps and their evaluation."""
