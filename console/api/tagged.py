"""Answers about a tenant's things carry the tenant's generation as their entity tag."""

from __future__ import annotations

from fastapi import Response

from console.etags import etag
from console.visit import Visit


def tagged(response: Response, visit: Visit, tenant: str) -> None:
    """Give the answer its tag. To be called before the things are read: what changes between is then refused."""
    with visit.inst.reading(tenant) as (_, found):
        response.headers["ETag"] = etag(found.generation)
