"""A checkpoint of any public layout -> a Mixer's weights under our names."""
