"""
The HTTP API over a `dcounter.store.Store`. `dcounter.http.site.make_site` is where to start reading.
"""
