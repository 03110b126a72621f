"""Places where shards are put."""
