"""Workers: each its own OS process, one file each under `fleet/`; outside services under `platforms/`."""
