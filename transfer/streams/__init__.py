"""Our own wire between two machines of which one is reached over SSH: several connections, one file at a time."""
