"""One file per key management service that can wrap a tenant's key."""
