"""Networks: an image goes in, activations come out."""
