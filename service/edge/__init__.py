"""What stands around every request: the server that drains, the connection, request ids, one rendering of errors."""
