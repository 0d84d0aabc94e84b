"""Proofs under load: what it costs (`make bench`), that it holds (`make soak`), what abuse does (`make abuse`).

Nothing here is installed. One client (``client.c``) drives all three and checks every response; the origin is nginx,
the daemon is the tests' harness. All traffic stays on loopback.
"""
