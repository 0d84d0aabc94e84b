"""What clients do that mean ill, or are broken: one kind in a file, each run in its own process beside a canary."""
