"""Places where the shards of a store are put. `base` says what a place must do; each of the others is one kind of place."""
