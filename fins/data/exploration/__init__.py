"""What stores hold, in pictures and numbers, before anything learns from it."""
