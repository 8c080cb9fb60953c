"""Ray Serve: the endpoints and the scoring core. Never imports the asset graph."""
