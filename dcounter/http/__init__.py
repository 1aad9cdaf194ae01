"""
The HTTP API over a `dcounter.store.Store`. `dcounter.http.server.Server` is where to start reading.
"""
