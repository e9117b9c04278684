"""What an image does by itself when it runs. Standard library alone: it runs on the system's Python, before anything
of the image is loaded, so that a fault is said within a moment.
"""
