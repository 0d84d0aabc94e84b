"""The PKI domain: names, bundles, authorities, the leaf profile, trust, verdicts.

Pure functions: no sockets, no files, no database; the time is passed in.
"""
