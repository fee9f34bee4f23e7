"""Libraries of indicators in an environment of their own, without TA-Lib: pandas-ta calls it where it is installed."""
