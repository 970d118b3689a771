"""Layer 2: distributed training of patch classifiers."""
