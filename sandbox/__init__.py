"""Platforms to try a fleet against: real wire protocols, own records, nothing of the fleet inside."""
