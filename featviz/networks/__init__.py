"""Networks: from images to activations."""
