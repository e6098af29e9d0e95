"""Networks of the shipped algorithms, in torch and, where that is faster, in numpy."""
