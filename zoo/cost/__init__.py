"""What a network costs: parameters, multiply-adds, activation memory and receptive field, layer by layer.

`zoo.cost.describe` measures any functional Keras model. `zoo.cost.figures` knows the totals of the zoo's own
models without building them, and without importing TensorFlow.
"""
