"""What the platform runs: YAML files and the types that define them.

A leaf package: it imports pydantic and yaml only, never a layer above it.
"""
