"""Takes the model out of TensorFlow: formats for phones and other runtimes, each tried on all test images."""
