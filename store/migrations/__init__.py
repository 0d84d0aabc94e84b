"""The database's revisions, oldest first, and Alembic's environment to go through them.

A new revision: a file in ``versions/``, its id at the end of :data:`REVISIONS`, and ``store.tables`` changed
accordingly; tests compare all three. Revisions are frozen: they never import ``store.tables``.
"""

REVISIONS = (
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012", "0013", "0014",
)  # fmt: skip
"""Known here so that opening a database needs no Alembic; a revision that is not in it is a newer version's."""
