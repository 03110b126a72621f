"""Ways to run a plan: which executor renders its shards."""
