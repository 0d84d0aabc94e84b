"""Inspectors that ship with Sallyport: ordinary mitmproxy addons, one behaviour per file.

A file with ``addons = [...]`` at its end is a script that the inspection lane loads, and that ``mitmdump -s`` runs
unchanged; its options begin with its name. What they share is in the files without it. An inspector that cannot do
what it was set up for says so before traffic flows (OptionsError from ``configure``), or raises in the hook.
"""
