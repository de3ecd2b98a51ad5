"""Slots: one replica of one worker on this host each, with the process that it has or waits for."""
