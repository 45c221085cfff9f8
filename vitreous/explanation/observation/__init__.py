"""Anyone's model: what its attention does is seen while it runs."""
