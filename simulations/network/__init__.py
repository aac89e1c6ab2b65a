"""Networks for simulated nodes: how long things take, and what is lost."""
