"""Models as data: specs that build into plain functional Keras models, with pretrained weights."""
