"""Continual learning: a stream of tasks, an engine that learns it, a memory, and what came of it."""
