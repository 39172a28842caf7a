"""What an exported model is: what it answers, what it says of itself, and its weights."""
