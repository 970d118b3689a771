"""What the benchmarks of all three layers share."""
