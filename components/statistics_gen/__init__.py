"""StatisticsGen: figures of what the examples hold, their pixels apart."""
