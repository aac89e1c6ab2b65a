"""The local API that OpenAI's clients speak: their shapes outside, this node's asks inside."""
