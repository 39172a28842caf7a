"""Writes the page that answers: is this model good, where is it bad, is it better than the last one, may it ship."""
