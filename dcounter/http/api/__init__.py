"""
What each route does: one function per route, from a `dcounter.http.call.Call` to an `Answer`.
"""
