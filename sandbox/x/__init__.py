"""X's API v2 as a fleet meets it: signatures, limits, answers and refusals in X's own shapes."""
