"""The one process that holds CA keys: it lints, signs, records. Its client is all that the data plane sees of it."""
