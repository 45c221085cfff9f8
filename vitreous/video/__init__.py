"""Video files: read frames, draw on them and write them again, with their times, colors and audio kept."""
