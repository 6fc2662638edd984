"""What is measured: one op, network or step a file, with what one would run instead."""
