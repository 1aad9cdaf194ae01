"""
What dcounter is measured against: short services of the same meaning, and two ceilings that store nothing.
"""
