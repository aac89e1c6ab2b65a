"""A model on this machine, and the service made of it: advertise, ask, answer."""
