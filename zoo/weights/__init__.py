"""Where pretrained weights come from: the manifest, the readers of each kind of file, and the name maps."""
