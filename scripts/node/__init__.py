"""The rooms of a running node: what they share, its roles, its asks, its money, how it stands."""
