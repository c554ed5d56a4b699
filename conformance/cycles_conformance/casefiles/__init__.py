"""Case files: read from YAML, checked, and handed out as cases."""
