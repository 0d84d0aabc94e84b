"""One file per way in: what a client says before its tunnel stands."""
