"""The transformer: layers, positions, attention, configuration. It knows no file, no schedule and no host."""
