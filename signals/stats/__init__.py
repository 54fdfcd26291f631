"""Statistics as plain Python: values in, values out."""
