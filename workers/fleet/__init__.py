"""The fleet's workers, one file each. A file here is registered by being here."""
