"""The proxy's own page for devices: their tenant's root certificate, a PAC file, and whether they trust the root.

It is answered at a name of the proxy's own (``onboarding.host``), over plain HTTP and over TLS under a leaf of the
active CA, on every way in. No connection is made for it: the name is asked of no DNS, no parent and no inspector. What
is told is public: certificates, addresses at which the proxy is reached anyway, words.

:mod:`.answers` decides without I/O what a request gets, :mod:`.pages` writes HTML, :mod:`.site` is its place in a
worker.
"""
