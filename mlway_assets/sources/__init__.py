"""Readers of raw tables: one file for each kind of source. They read; writing is the lake's work."""
