"""`quickstudy validate`: what a sceptic would check of the algorithms, each against an answer that is known."""
