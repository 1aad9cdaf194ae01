"""
A coordinator: where batches go and who is asked, which is pure, and the service around it.
"""
