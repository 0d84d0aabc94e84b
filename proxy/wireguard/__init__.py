"""WireGuard listeners: the process that ends the tunnels, and hands what comes out of them to the workers.

    UDP socket -> front -> a tunnel for each peer (mitmproxy_rs: WireGuard, IP and TCP in user space)
                              -> TCP streams -> the listener's Unix socket, with a PROXY protocol header -> workers
                              -> questions to port 53 -> names

mitmproxy_rs cannot add or remove a peer of a server that runs, takes an endpoint from a packet before it has verified
it, and lets any peer use any address. So each peer has a server of its own here, on loopback, and the front decides
whose a packet is: by a handshake that it has verified itself, and from then on by the address that this came from. To
remove a peer is to end its server, and nobody else notices.

The process holds the private keys of the tenants that it serves: they come from the issuer, over its socket.
"""
