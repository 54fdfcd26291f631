"""What machines call all the time: plain WSGI handlers in front of Django."""
