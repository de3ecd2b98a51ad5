"""The fleet's own speed beside peers: `make bench`."""
