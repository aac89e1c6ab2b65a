"""Engines behind one seam: llama.cpp in a child process, and a seeded twin."""
