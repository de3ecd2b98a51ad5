"""What the sandbox remembers: one SQLite file, a module and its statements a part."""
