"""A tripped trigger, as a row that people answer."""
