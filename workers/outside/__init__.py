"""Dealing with the platform: reading under grants, proposing acts, sending them once."""
