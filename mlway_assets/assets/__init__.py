"""The assets, one file for each layer. Wiring only: the work is done in compute/ and the layers below."""
