"""
The functions of the routes, one each: from a `dcounter.http.call.Call` to an `Answer`.
"""
