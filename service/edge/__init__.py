"""What stands around every request: the server that drains, the connection, telemetry, one rendering of errors."""
