"""File to frames to file: reading, drawing on and writing clips with their times, colors and sound kept."""
