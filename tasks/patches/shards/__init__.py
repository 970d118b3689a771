"""Finished shards: looking into them, checking them, exchanging them with other tools."""
