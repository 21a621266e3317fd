"""Elysium: object-level video perception with a multimodal LLM."""
