"""`moorage doctor`: looks at everything from where it is run, changes nothing, and says what to do next."""
