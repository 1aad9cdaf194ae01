"""
A coordinator: pure machines that decide where batches go and which node is asked, and a service around them.
"""
