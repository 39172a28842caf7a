"""Where labelled images come from: sources, checks, splits and the raw feature contract."""
