"""Tables, repositories that return frozen records, migrations and the change feed.

SQLAlchemy and Alembic are imported here and nowhere else. Nothing here opens a seal or decides anything.
"""
