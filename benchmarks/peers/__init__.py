"""The peers: what else people run, at its best documented settings. Installed by `make bench` only."""
