"""What a model file is and how its tensors come to bear the model's names."""
