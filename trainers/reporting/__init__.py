"""What came of runs: pictures and one page, from the files they left. Nothing here needs torch."""
