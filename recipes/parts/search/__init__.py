"""A search for hyperparameters: what `zoo search` is made of."""
