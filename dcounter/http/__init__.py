"""
The HTTP API of a `dcounter.store.Store`; `dcounter.http.site.make_site` is the way in.
"""
