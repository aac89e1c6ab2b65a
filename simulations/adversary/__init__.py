"""Attackers: each wraps real cores or the choices of real code, and says what it has learnt."""
