"""Models: published configurations as shapes, and shapes as counted workloads."""
