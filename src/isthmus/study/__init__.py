"""Which runs, where they run, and what they amount to."""
