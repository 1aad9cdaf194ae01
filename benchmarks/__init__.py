"""
Measures dcounter against what people would build instead; `make bench` runs it, `README.md` explains it.
"""
