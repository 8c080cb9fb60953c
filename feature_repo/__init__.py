"""Feast's side of the platform: definitions, the features' one implementation, the offline store."""
