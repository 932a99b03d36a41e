"""The table's columns: every engine that a user could run a Mixer on, and ours."""
