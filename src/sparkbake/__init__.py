"""Build reproducible CUDA container images for NVIDIA DGX Spark from one version matrix."""

__version__ = "0.1.0"
