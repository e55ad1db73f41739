"""What is best: the fraction, the window, the weights and the volume of data."""
