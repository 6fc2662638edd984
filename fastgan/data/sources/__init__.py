"""Where data come from: one kind of source a file, and what a folder holds."""
