"""What methods are given and what they answer: arrays, scores, pools, subsets, files."""
