"""The Dagster code location: assets, checks, sensors, schedules and the command line."""
