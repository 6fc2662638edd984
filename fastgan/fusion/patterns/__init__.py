"""What is fused: a pattern a file, with how it is found, what runs in its place, where, and why not elsewhere."""
