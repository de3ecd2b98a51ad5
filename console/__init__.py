"""The console: a live page, the JSON API, /metrics and /health, on loopback, as the role `console`."""
