"""What signing through a key manager does when that hangs, dies, is cut off or is slow: one scenario in a file.

The key manager is PyKMIP's server over mutual TLS, the daemon and its clients are real. PyKMIP signs a hundred times a
second, one after the other; what is ours to show beyond that is shown with a fake that signs with cryptography.
"""
