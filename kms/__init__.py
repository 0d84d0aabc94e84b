"""Custody of keys: sealing under a tenant's key, and the providers that wrap that key."""
