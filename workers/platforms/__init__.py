"""The outside services; nothing in here knows of coordination."""
