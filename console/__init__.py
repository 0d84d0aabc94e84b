"""The console: the REST API and the web pages, over the use cases of ``control``.

A process of its own beside the workers. It reaches the store only through ``control``, and the running daemon only
through :mod:`console.daemon`, which whoever starts it hands in.
"""
