"""The world in the store: where it comes from, and what happens in it."""
