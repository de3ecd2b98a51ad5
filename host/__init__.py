"""One host's share of the fleet: its processes, its embedded PostgreSQL and the commands that steer them."""
