"""A world of people, made from a seed: who they are, what they say, how they react. It knows no platform."""
