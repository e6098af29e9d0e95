"""What is done with a policy after its training: evaluated, filmed, exported."""
