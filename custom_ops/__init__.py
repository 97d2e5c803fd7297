"""Pooling operators as pure functions with XLA kernels, and thin Keras layers over them."""
