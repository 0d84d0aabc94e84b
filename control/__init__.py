"""The use cases of the administrator: validate, seal, save and announce, in one transaction.

Each takes the open :class:`control.installation.Installation` first. What is refused is :class:`control.errors.Refused`
with a text for the administrator; a database that fails is ``store.engine.StoreError``. Never imports the data plane.
"""
