"""What every other room stands on: errors, the clock, timestamps, settings, hashing. Imports no data library."""
