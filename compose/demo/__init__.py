"""The main job as a story that checks each of its steps: `moorage demo`."""
