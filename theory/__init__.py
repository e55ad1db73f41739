"""What is studied: problems, policies, probes and the closed forms around them."""
