"""Models that run on other machines: protocol, client pools, server."""
