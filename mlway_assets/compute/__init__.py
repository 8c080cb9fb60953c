"""Pure functions from frames to frames and numbers. No Dagster, Feast or MLflow here: assets wire them."""
