"""What stands around every request: the server that drains, the connection, ids and log lines, one rendering of errors."""
