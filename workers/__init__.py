"""The fleet: what a worker is, the workers, and the outside services they use."""
