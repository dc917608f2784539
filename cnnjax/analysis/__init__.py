"""What is inside a network: parameters, multiply-adds, receptive fields."""
