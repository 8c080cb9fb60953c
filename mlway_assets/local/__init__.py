"""One machine's services: what `mlway up` starts, watches and stops. The graph does not know of them."""
