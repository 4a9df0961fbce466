"""What the engine is judged by: a numpy model, random checkpoints, the transformers oracle."""
