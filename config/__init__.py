"""The operator's settings: the models, the loader, the commented default.

Everything else may import this; it imports nothing of ours.
"""
