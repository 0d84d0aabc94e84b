"""Signing with a key that stays in a key manager: KMIP (OASIS, 1.2 to 2.0) over mutual TLS.

The encoding is PyKMIP's, and used by :mod:`kms.kmip.messages` alone; connections, deadlines and what is believed of an
answer are ours.
"""
