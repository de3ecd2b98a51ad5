"""Pages: what the fleet did and what the world says, as a person reads it in a browser."""
