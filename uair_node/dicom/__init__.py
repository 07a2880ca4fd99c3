"""Objects that came in, without a database: files, headers, stacks, volumes, the gate."""
