"""Measures FastGAN beside what a user would run instead: in one process, interleaved, behind a check of the numbers."""
