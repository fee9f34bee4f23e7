"""``make soak``: property tests and kill trials with ever new seeds; counts and the next seed are kept between runs."""
