"""What a test or a person may do to the sandbox: faults, time, the token."""
