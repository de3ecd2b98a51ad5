"""The protocol: what requests may say, and how answers are written."""
